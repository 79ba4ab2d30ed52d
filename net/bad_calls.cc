#include "net/bad_calls.h"

namespace coterie::net {

BadCalls::BadCalls(MetricsRegistry* registry)
    : unseen_(registry == nullptr ? std::make_unique<MetricsRegistry>() : nullptr) {
  if (registry == nullptr) registry = unseen_.get();
  const auto counter = [&](const char* code) {
    return &registry->Counter("coterie_malformed_requests_total",
                              "Calls refused before a service saw a request, by code: no message of the "
                              "method's (INVALID_ARGUMENT), or no such method (UNIMPLEMENTED).",
                              {{"code", code}});
  };
  message_ = counter("INVALID_ARGUMENT");
  method_ = counter("UNIMPLEMENTED");
}

}  // namespace coterie::net
