#ifndef COTERIE_GATEWAY_GRPC_CHECK_CALLER_H_
#define COTERIE_GATEWAY_GRPC_CHECK_CALLER_H_

#include <grpcpp/server_context.h>

#include <memory>
#include <string_view>

#include "gateway/core/gateway_core.h"

namespace coterie::gateway {

// The pass of a call by the key in its metadata (`authorization: Bearer KEY` or `x-api-key`); null where the
// gateway has no keys. Unauthenticated as Keys::Check says it.
inline StatusOr<std::shared_ptr<AccessPass>> CheckCaller(const GatewayCore& core,
                                                         const grpc::ServerContextBase& context) {
  if (core.keys == nullptr) return std::shared_ptr<AccessPass>();
  const auto value = [&context](const char* name) -> std::string_view {
    const auto found = context.client_metadata().find(name);
    if (found == context.client_metadata().end()) return {};
    return {found->second.data(), found->second.size()};
  };
  return core.keys->Check(KeyIn(value("authorization"), value("x-api-key")));
}

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_CHECK_CALLER_H_
