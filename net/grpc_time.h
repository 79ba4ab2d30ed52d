#ifndef COTERIE_NET_GRPC_TIME_H_
#define COTERIE_NET_GRPC_TIME_H_

#include <grpc/support/time.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/time.h>

#include <algorithm>

#include "absl/time/time.h"
#include "common/clock.h"

namespace coterie::net {

// Deadlines where they cross into gRPC and out of it. Its own deadlines are points on the monotonic clock;
// the ones of std::chrono::system_clock, which its C++ interface suggests, would be converted by whatever the
// wall clock says at that moment, so that a clock set between two looks moves them.

// When the call must have ended; InfiniteFuture where the client gave no limit.
inline MonotonicTime DeadlineOf(const grpc::ServerContextBase& context) {
  const gpr_timespec raw = context.raw_deadline();
  if (gpr_time_cmp(raw, gpr_inf_future(raw.clock_type)) == 0) return MonotonicTime::InfiniteFuture();
  const gpr_timespec left = gpr_time_sub(gpr_convert_clock_type(raw, GPR_CLOCK_MONOTONIC),  //
                                         gpr_now(GPR_CLOCK_MONOTONIC));
  return MonotonicNow() + absl::Seconds(left.tv_sec) + absl::Nanoseconds(left.tv_nsec);
}

// For ClientContext::set_deadline, Server::Shutdown and Channel::WaitForStateChange.
inline gpr_timespec GrpcDeadline(absl::Duration from_now) {
  if (from_now == absl::InfiniteDuration()) return gpr_inf_future(GPR_CLOCK_MONOTONIC);
  const absl::Duration bounded = std::clamp(from_now, absl::ZeroDuration(), absl::Hours(24 * 365 * 100));
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_nanos(absl::ToInt64Nanoseconds(bounded), GPR_TIMESPAN));
}

}  // namespace coterie::net

#endif  // COTERIE_NET_GRPC_TIME_H_
