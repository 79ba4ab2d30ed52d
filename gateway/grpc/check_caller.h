#ifndef COTERIE_GATEWAY_GRPC_CHECK_CALLER_H_
#define COTERIE_GATEWAY_GRPC_CHECK_CALLER_H_

#include <grpcpp/server_context.h>

#include <memory>

#include "gateway/core/gateway_core.h"
#include "gateway/grpc/call_metadata.h"

namespace coterie::gateway {

// The pass of a call by the key in its metadata (`authorization: Bearer KEY` or `x-api-key`); null where the
// gateway has no keys. Unauthenticated as Keys::Check says it.
inline StatusOr<std::shared_ptr<AccessPass>> CheckCaller(const GatewayCore& core,
                                                         const grpc::ServerContextBase& context) {
  if (core.keys == nullptr) return std::shared_ptr<AccessPass>();
  return core.keys->Check(KeyIn(CallMetadata(context, "authorization"), CallMetadata(context, "x-api-key")));
}

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_CHECK_CALLER_H_
