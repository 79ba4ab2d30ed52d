#ifndef COTERIE_GATEWAY_ACCESS_RETRY_DELAY_H_
#define COTERIE_GATEWAY_ACCESS_RETRY_DELAY_H_

#include <optional>

#include "absl/time/time.h"
#include "common/status.h"

namespace coterie::gateway {

// `status` with the advice to try again after `delay`; grpc/rpc_status.h puts it into the trailer.
Status WithRetryDelay(Status status, absl::Duration delay);
std::optional<absl::Duration> RetryDelay(const Status& status);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ACCESS_RETRY_DELAY_H_
