#ifndef COTERIE_GATEWAY_GRPC_RPC_STATUS_H_
#define COTERIE_GATEWAY_GRPC_RPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "common/status.h"

namespace coterie::gateway {

// Code and message, printable UTF-8 whatever stood in it; with a RetryDelay (access/retry_delay.h) also
// google.rpc.Status holding a google.rpc.RetryInfo as error details (the trailer grpc-status-details-bin).
grpc::Status ToGrpc(const Status& status);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_RPC_STATUS_H_
