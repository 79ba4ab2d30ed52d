#ifndef COTERIE_NET_TRACE_OTLP_ENDPOINT_H_
#define COTERIE_NET_TRACE_OTLP_ENDPOINT_H_

#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie::net {

// Where traces go: "http://collector:4318", as OTEL_EXPORTER_OTLP_ENDPOINT has it.
struct OtlpEndpoint {
  bool tls = false;
  std::string host;  // a name or an address, without brackets
  std::string port;
  std::string authority;  // as the Host header has it
  std::string path;       // of the POST

  // InvalidArgument naming the URL and what is wrong with it. "/v1/traces" is added to the path.
  static StatusOr<OtlpEndpoint> Parse(std::string_view url);
};

}  // namespace coterie::net

#endif  // COTERIE_NET_TRACE_OTLP_ENDPOINT_H_
