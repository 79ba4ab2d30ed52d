#ifndef COTERIE_NET_UNKNOWN_METHODS_H_
#define COTERIE_NET_UNKNOWN_METHODS_H_

#include <grpcpp/generic/async_generic_service.h>

#include <string>
#include <vector>

#include "net/bad_calls.h"

namespace coterie::net {

// Answers calls of methods that a port does not have: UNIMPLEMENTED, as gRPC does, and what it has instead.
// Thread-safe.
class UnknownMethods final : public grpc::CallbackGenericService {
 public:
  // `services`: full names of what the port serves. `bad_calls` is borrowed.
  UnknownMethods(const std::vector<std::string>& services, BadCalls* bad_calls);

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override;

 private:
  const std::string served_;
  BadCalls* const bad_calls_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_UNKNOWN_METHODS_H_
