#ifndef COTERIE_NET_TRACE_OTLP_MESSAGE_H_
#define COTERIE_NET_TRACE_OTLP_MESSAGE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/trace/span.h"

namespace coterie::net {

// Who the spans are of: OpenTelemetry's attributes of a resource.
struct TracedService {
  std::string name;      // service.name
  std::string instance;  // service.instance.id
  std::string version;   // service.version
};

// The body of a POST to an OTLP/HTTP receiver, as protobuf. Spans carry points of the monotonic clock, which
// are moved onto the wall clock as it is now: it may have been set meanwhile, and durations stay right.
std::string OtlpMessage(const TracedService& service, std::span<const Span> spans);

// How many spans a receiver says that it refused, of its answer's body; 0 for what is no such answer.
int64_t RejectedSpans(std::string_view answer);

}  // namespace coterie::net

#endif  // COTERIE_NET_TRACE_OTLP_MESSAGE_H_
