#ifndef COTERIE_GATEWAY_RPC_STATUS_H_
#define COTERIE_GATEWAY_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <optional>

#include "absl/time/time.h"
#include "common/status.h"

namespace coterie::gateway {

// `status` with the advice to try again after `delay`.
Status WithRetryDelay(Status status, absl::Duration delay);
std::optional<absl::Duration> RetryDelay(const Status& status);

// Code and message, printable UTF-8 whatever stood in it; with a retry delay also google.rpc.Status holding a
// google.rpc.RetryInfo as error details (the trailer grpc-status-details-bin).
grpc::Status ToGrpc(const Status& status);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_RPC_STATUS_H_
