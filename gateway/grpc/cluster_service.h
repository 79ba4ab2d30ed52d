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
  // Both are borrowed.
  ClusterServiceImpl(const GatewayCore* core, MetricsRegistry* registry);

  grpc::ServerUnaryReactor* Status(grpc::CallbackServerContext* context, const v1::StatusRequest* request,
                                   v1::StatusResponse* response) override;

 private:
  const GatewayCore* const core_;
  net::BadCalls bad_calls_;
  const MonotonicTime started_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_CLUSTER_SERVICE_H_
