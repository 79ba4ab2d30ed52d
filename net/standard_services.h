#ifndef COTERIE_NET_STANDARD_SERVICES_H_
#define COTERIE_NET_STANDARD_SERVICES_H_

#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "common/metrics.h"
#include "net/bad_calls.h"
#include "net/reflection_service.h"
#include "net/unknown_methods.h"

namespace coterie::net {

// What every gRPC port of ours has beside its own services: health (gRPC's own), reflection, and an answer
// for methods that it does not have. Must outlive the server.
class StandardServices {
 public:
  // `services`: full names of the port's own. `registry` is borrowed, and may be null.
  StandardServices(std::vector<std::string> services, MetricsRegistry* registry);

  void Register(grpc::ServerBuilder* builder);

 private:
  BadCalls bad_calls_;
  ReflectionService reflection_;
  UnknownMethods unknown_methods_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_STANDARD_SERVICES_H_
