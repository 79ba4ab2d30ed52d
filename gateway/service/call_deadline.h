#ifndef COTERIE_GATEWAY_SERVICE_CALL_DEADLINE_H_
#define COTERIE_GATEWAY_SERVICE_CALL_DEADLINE_H_

#include <grpcpp/grpcpp.h>

#include <chrono>

#include "absl/time/time.h"

namespace coterie::gateway {

inline absl::Time DeadlineOf(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline == std::chrono::system_clock::time_point::max()) return absl::InfiniteFuture();
  return absl::FromChrono(deadline);
}

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_SERVICE_CALL_DEADLINE_H_
