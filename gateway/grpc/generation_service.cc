#include "gateway/grpc/generation_service.h"

#include <memory>
#include <utility>
#include <vector>

#include "gateway/answer/embed_texts.h"
#include "gateway/answer/route_question.h"
#include "gateway/answer/scoring.h"
#include "gateway/core/apply_pass.h"
#include "gateway/grpc/call_metadata.h"
#include "gateway/grpc/check_caller.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/generate_call.h"
#include "gateway/grpc/rpc_status.h"
#include "gateway/grpc/unary_call.h"
#include "net/grpc_time.h"
#include "net/received.h"

namespace coterie::gateway {
namespace {

StatusOr<EmbedTextsRequest> FromProto(const v1::EmbedRequest& proto, const RequestLimits& limits) {
  EmbedTextsRequest request;
  request.texts.assign(proto.texts().begin(), proto.texts().end());
  ASSIGN_OR_RETURN(request.context, FromProto(proto.context(), limits));
  RETURN_IF_ERROR(ValidateEmbedTexts("texts", request.texts, limits));
  return request;
}

v1::EmbedResponse ToProto(const std::vector<std::vector<float>>& embeddings, const Digest& model) {
  v1::EmbedResponse response;
  for (const std::vector<float>& embedding : embeddings) {
    response.add_embeddings()->mutable_values()->Add(embedding.begin(), embedding.end());
  }
  response.set_model_digest(model.ToHex());
  return response;
}

// How the call came, and when it must have ended.
template <typename Request>
void Complete(const grpc::CallbackServerContext& context, Request* request) {
  request->context.connection = context.peer();
  request->deadline = net::DeadlineOf(context);
}

// The request as it may be asked, by whoever asks.
template <typename Request, typename Proto>
StatusOr<Request> Admit(const GatewayCore& core, const grpc::CallbackServerContext& context,
                        const Proto& proto) {
  ASSIGN_OR_RETURN(std::shared_ptr<AccessPass> pass, CheckCaller(core, context));
  ASSIGN_OR_RETURN(Request request, FromProto(proto, core.limits));
  Complete(context, &request);
  TakeCallersTrace(context, !proto.context().trace_id().empty(), &request);
  if constexpr (requires { request.routing; }) {
    ApplyPass(std::move(pass), &request.context, &request.routing);
  } else {
    ApplyPass(std::move(pass), &request.context);
  }
  return request;
}

}  // namespace

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
  StatusOr<ScoreRequest> score = Admit<ScoreRequest>(*core_, *context, *request);
  if (!score.ok()) {
    core_->metrics->CountRequest("Score", score.status());
    call->Finish(score.status());
    return call->reactor();
  }
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
  StatusOr<EmbedTextsRequest> texts = Admit<EmbedTextsRequest>(*core_, *context, *request);
  if (!texts.ok()) {
    core_->metrics->CountRequest("Embed", texts.status());
    call->Finish(texts.status());
    return call->reactor();
  }
  const auto embedding = EmbedTexts::Create(
      core_, *std::move(texts), [call, core = core_](StatusOr<std::vector<std::vector<float>>> embeddings) {
        if (embeddings.ok()) {
          call->Finish(ToProto(*embeddings, core->embedder->digest()));
        } else {
          call->Finish(embeddings.status());
        }
      });
  call->WhenCancelled([embedding] { embedding->Cancel(); });
  embedding->Begin();
  return call->reactor();
}

grpc::ServerUnaryReactor* GenerationServiceImpl::Route(grpc::CallbackServerContext* context,
                                                       const v1::RouteRequest* request,
                                                       v1::RouteResponse* response) {
  auto call = UnaryCall<v1::RouteResponse>::Create(response);
  StatusOr<AnswerRequest> route = Admit<AnswerRequest>(*core_, *context, *request);
  if (!route.ok()) {
    core_->metrics->CountRequest("Route", route.status());
    call->Finish(route.status());
    return call->reactor();
  }
  const auto question = RouteQuestion::Create(core_, *std::move(route), [call](StatusOr<Decision> decision) {
    if (!decision.ok()) return call->Finish(decision.status());
    v1::RouteResponse result;
    *result.mutable_decision() = ToProto(RouteEvent{*std::move(decision), "", "", ""});
    call->Finish(std::move(result));
  });
  call->WhenCancelled([question] { question->Cancel(); });
  question->Begin();
  return call->reactor();
}

}  // namespace coterie::gateway
