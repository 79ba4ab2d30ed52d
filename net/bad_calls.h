#ifndef COTERIE_NET_BAD_CALLS_H_
#define COTERIE_NET_BAD_CALLS_H_

#include <memory>

#include "common/metrics.h"

namespace coterie::net {

// Calls that a port refused before any of its services saw a request, in /metrics: their clients are broken,
// of another version, or no clients of ours. All of one registry are one number, whoever counts. Thread-safe.
class BadCalls {
 public:
  // Without a registry nobody sees the numbers.
  explicit BadCalls(MetricsRegistry* registry);

  // INVALID_ARGUMENT: what came is not the method's message, or the call ended before one came.
  void CountMessage() { message_->Increment(); }
  // UNIMPLEMENTED: the port has no such method.
  void CountMethod() { method_->Increment(); }

 private:
  const std::unique_ptr<MetricsRegistry> unseen_;
  prometheus::Counter* message_;
  prometheus::Counter* method_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_BAD_CALLS_H_
