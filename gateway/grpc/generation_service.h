#ifndef COTERIE_GATEWAY_GRPC_GENERATION_SERVICE_H_
#define COTERIE_GATEWAY_GRPC_GENERATION_SERVICE_H_

#include "common/metrics.h"
#include "coterie/v1/generation.grpc.pb.h"
#include "gateway/core/gateway_core.h"
#include "net/bad_calls.h"

namespace coterie::gateway {

// coterie.v1.GenerationService: Generate, Score, Embed, Route.
class GenerationServiceImpl final : public v1::GenerationService::CallbackService {
 public:
  // Both are borrowed.
  GenerationServiceImpl(const GatewayCore* core, MetricsRegistry* registry);

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context, const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;
  grpc::ServerUnaryReactor* Embed(grpc::CallbackServerContext* context, const v1::EmbedRequest* request,
                                  v1::EmbedResponse* response) override;
  grpc::ServerUnaryReactor* Route(grpc::CallbackServerContext* context, const v1::RouteRequest* request,
                                  v1::RouteResponse* response) override;

 private:
  const GatewayCore* const core_;
  net::BadCalls bad_calls_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_GENERATION_SERVICE_H_
