#ifndef COTERIE_GATEWAY_GRPC_CLUSTER_SERVICE_H_
#define COTERIE_GATEWAY_GRPC_CLUSTER_SERVICE_H_

#include "common/clock.h"
#include "common/metrics.h"
#include "coterie/v1/cluster.grpc.pb.h"
#include "gateway/core/gateway_core.h"
#include "net/bad_calls.h"

namespace coterie::gateway {

// coterie.v1.ClusterService: what this gateway knows of itself and its workers.
class ClusterServiceImpl final : public v1::ClusterService::CallbackService {
 public:
  // Both are borrowed. `asks_for_key`: for clients, who show one where the gateway has keys; operators come
  // another way.
  ClusterServiceImpl(const GatewayCore* core, MetricsRegistry* registry, bool asks_for_key);

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const v1::StatusRequest* request,
                                   v1::StatusResponse* response) override;

 private:
  const GatewayCore* const core_;
  const bool asks_for_key_;
  net::BadCalls bad_calls_;
  const MonotonicTime started_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_CLUSTER_SERVICE_H_
