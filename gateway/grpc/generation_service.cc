#include "gateway/grpc/generation_service.h"

#include <string>
#include <utility>
#include <vector>

#include "gateway/access/retry_delay.h"
#include "gateway/answer/preparation.h"
#include "gateway/answer/scoring.h"
#include "gateway/answer/text_embedding.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/generate_call.h"
#include "gateway/grpc/rpc_status.h"
#include "gateway/grpc/unary_call.h"
#include "net/grpc_time.h"
#include "net/received.h"

namespace coterie::gateway {

GenerationServiceImpl::GenerationServiceImpl(const GatewayCore* core, MetricsRegistry* registry)
    : core_(core), bad_calls_(registry) {
  const auto index = [](const char* method) {
    return net::MethodIndex(v1::GenerationService::service_full_name(), method);
  };
  MarkMethodCallback(index("Generate"),
                     net::ServerStreamHandler(this, &GenerationServiceImpl::Generate, &bad_calls_));
  MarkMethodCallback(index("Score"), net::UnaryHandler(this, &GenerationServiceImpl::Score, &bad_calls_));
  MarkMethodCallback(index("Embed"), net::UnaryHandler(this, &GenerationServiceImpl::Embed, &bad_calls_));
  MarkMethodCallback(index("Route"), net::UnaryHandler(this, &GenerationServiceImpl::Route, &bad_calls_));
}

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerationServiceImpl::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return GenerateCall::Start(core_, context, *request);
}

grpc::ServerUnaryReactor* GenerationServiceImpl::Score(grpc::CallbackServerContext* context,
                                                       const v1::ScoreRequest* request,
                                                       v1::ScoreResponse* response) {
  auto call = UnaryCall<v1::ScoreResponse>::Create(response);
  StatusOr<ScoreRequest> score = FromProto(*request, core_->limits);
  if (!score.ok()) {
    core_->metrics->CountRequest("Score", score.status());
    call->Finish(score.status());
    return call->reactor();
  }
  score->deadline = net::DeadlineOf(*context);
  const auto scoring = Scoring::Create(core_, *std::move(score), [call](StatusOr<ScoreResult> result) {
    if (result.ok()) {
      call->Finish(ToProto(*result));
    } else {
      call->Finish(result.status());
    }
  });
  call->WhenCancelled([scoring] { scoring->Cancel(); });
  scoring->Begin();
  return call->reactor();
}

grpc::ServerUnaryReactor* GenerationServiceImpl::Embed(grpc::CallbackServerContext* context,
                                                       const v1::EmbedRequest* request,
                                                       v1::EmbedResponse* response) {
  auto call = UnaryCall<v1::EmbedResponse>::Create(response);
  std::vector<std::string> texts(request->texts().begin(), request->texts().end());
  Status status = ValidateEmbedTexts("texts", texts, core_->limits);
  if (status.ok()) status = FromProto(request->context(), core_->limits).status();
  if (!status.ok()) {
    core_->metrics->CountRequest("Embed", status);
    call->Finish(status);
    return call->reactor();
  }
  EmbedTexts(core_, std::move(texts),
             [call, core = core_](StatusOr<std::vector<std::vector<float>>> embeddings) {
               if (!embeddings.ok()) return call->Finish(embeddings.status());
               v1::EmbedResponse result;
               for (const std::vector<float>& embedding : *embeddings) {
                 result.add_embeddings()->mutable_values()->Add(embedding.begin(), embedding.end());
               }
               result.set_model_digest(core->embedder->digest().ToHex());
               call->Finish(std::move(result));
             });
  return call->reactor();
}

grpc::ServerUnaryReactor* GenerationServiceImpl::Route(grpc::CallbackServerContext* context,
                                                       const v1::RouteRequest* request,
                                                       v1::RouteResponse* response) {
  auto call = UnaryCall<v1::RouteResponse>::Create(response);
  StatusOr<AnswerRequest> route = FromProto(*request, core_->limits);
  Status status = route.status();
  if (status.ok()) {
    PreparationRequest preparation;
    preparation.input = std::move(route->input);
    preparation.expert = route->expert;
    preparation.routing = std::move(route->routing);
    preparation.only_route = true;
    status = Prepare(core_, std::move(preparation), [call, core = core_](StatusOr<Prepared> prepared) {
      core->metrics->CountRequest("Route", prepared.status());
      if (!prepared.ok()) return call->Finish(prepared.status());
      v1::RouteResponse result;
      *result.mutable_decision() = ToProto(RouteEvent{std::move(prepared->decision), "", "", ""});
      call->Finish(std::move(result));
    });
    if (status.ok()) return call->reactor();
    status = WithRetryDelay(status, core_->admission->RetryDelayNow());
  }
  core_->metrics->CountRequest("Route", status);
  call->Finish(status);
  return call->reactor();
}

}  // namespace coterie::gateway
