#ifndef COTERIE_NET_REFLECTION_SERVICE_H_
#define COTERIE_NET_REFLECTION_SERVICE_H_

#include <grpcpp/impl/service_type.h>

#include <string>
#include <vector>

#include "net/bad_calls.h"

namespace grpc::reflection::v1 {
class ServerReflectionRequest;
class ServerReflectionResponse;
}  // namespace grpc::reflection::v1

namespace coterie::net {

// Server reflection, v1 and v1alpha (their messages are the same on the wire): what grpcurl, grpcui and their
// kin ask for the services of a port and the files that describe them. gRPC 1.51's own plugin speaks v1alpha
// alone, and names the health service without having its description. Thread-safe; keeps no state.
class ReflectionService final : public grpc::Service {
 public:
  // `services`: the full names of what the port serves beside health and reflection, all of them compiled in;
  // `bad_calls` is borrowed.
  ReflectionService(std::vector<std::string> services, BadCalls* bad_calls);

  // The answer to one message of a stream.
  grpc::reflection::v1::ServerReflectionResponse Answer(
      const grpc::reflection::v1::ServerReflectionRequest& request) const;
  BadCalls* bad_calls() const { return bad_calls_; }
  const std::vector<std::string>& services() const { return services_; }

 private:
  std::vector<std::string> services_;  // sorted
  BadCalls* const bad_calls_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_REFLECTION_SERVICE_H_
