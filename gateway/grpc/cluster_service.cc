#include "gateway/grpc/cluster_service.h"

#include <memory>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/version.h"
#include "gateway/grpc/check_caller.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/rpc_status.h"
#include "gateway/watch/findings.h"
#include "net/received.h"

namespace coterie::gateway {
namespace {

constexpr size_t kMaxFindings = 100;

}  // namespace

ClusterServiceImpl::ClusterServiceImpl(const GatewayCore* core, MetricsRegistry* registry, bool asks_for_key)
    : core_(core), asks_for_key_(asks_for_key), bad_calls_(registry), started_(MonotonicNow()) {
  MarkMethodCallback(net::MethodIndex(v1::ClusterService::service_full_name(), "Status"),
                     net::UnaryHandler(this, &ClusterServiceImpl::Status, &bad_calls_));
}

grpc::ServerUnaryReactor* ClusterServiceImpl::Status(grpc::CallbackServerContext* context,
                                                     const v1::StatusRequest* request,
                                                     v1::StatusResponse* response) {
  bool restricted = false;
  if (asks_for_key_) {
    const StatusOr<std::shared_ptr<AccessPass>> pass = CheckCaller(*core_, *context);
    if (!pass.ok()) {
      grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
      reactor->Finish(ToGrpc(pass.status()));
      return reactor;
    }
    restricted = *pass != nullptr && (*pass)->experts() != nullptr;
  }
  const auto router = core_->routers->Current();
  response->set_gateway_id(core_->gateway_id);
  response->set_version(kVersion);
  response->set_base_model(core_->text->name());
  response->set_base_digest(core_->text->base().ToHex());
  response->set_tokenizer_digest(core_->text->tokenizer().ToHex());
  response->set_catalogue_generation(router->catalogue().generation);
  response->set_experts(static_cast<uint32_t>(router->catalogue().entries.size()));
  response->set_requests_running(core_->admission->running());
  response->set_requests_waiting(core_->admission->waiting());
  for (const WorkerReport& report : core_->workers->Report()) {
    *response->add_workers() = ToProto(report, *core_->text);
  }
  for (const EndToken& end : core_->text->end_tokens()) *response->add_end_tokens() = ToProto(end);
  response->set_uptime_seconds(absl::ToDoubleSeconds(MonotonicNow() - started_));
  response->set_router_policy(core_->router_policy);
  if (!restricted) {  // they name experts of others
    for (std::string& finding : AllFindings(*core_, kMaxFindings)) {
      response->add_findings(std::move(finding));
    }
  }
  if (core_->embedder != nullptr) response->set_embedder_digest(core_->embedder->digest().ToHex());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace coterie::gateway
