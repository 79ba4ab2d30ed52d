#include "gateway/grpc/generation_service.h"

#include <atomic>
#include <functional>
#include <memory>
#include <utility>

#include "gateway/access/retry_delay.h"
#include "gateway/answer/preparation.h"
#include "gateway/answer/scoring.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/generate_call.h"
#include "gateway/grpc/rpc_status.h"
#include "gateway/grpc/unary_call.h"
#include "net/grpc_time.h"
#include "net/received.h"

namespace coterie::gateway {
namespace {

// Embeds the texts of one request, all at once; whoever is last answers.
class EmbedAll : public std::enable_shared_from_this<EmbedAll> {
 public:
  using Done = std::function<void(StatusOr<v1::EmbedResponse>)>;
  EmbedAll(const GatewayCore* core, const v1::EmbedRequest& request, Done done)
      : core_(core),
        request_(request),
        done_(std::move(done)),
        left_(request.texts_size()),
        results_(static_cast<size_t>(request.texts_size()), absl::UnknownError("not embedded")) {}

  void Start() {
    for (int i = 0; i < request_.texts_size(); ++i) {
      EmbedText(core_, request_.texts(i), TextEmbedder::Urgency::kBulk,
                [self = shared_from_this(), i](StatusOr<std::vector<float>> embedding) {
                  self->results_[static_cast<size_t>(i)] = std::move(embedding);
                  if (self->left_.fetch_sub(1) == 1) self->Answer();
                });
    }
  }

 private:
  void Answer() {
    v1::EmbedResponse response;
    for (const StatusOr<std::vector<float>>& embedding : results_) {
      if (!embedding.ok()) return done_(embedding.status());
      response.add_embeddings()->mutable_values()->Add(embedding->begin(), embedding->end());
    }
    response.set_model_digest(core_->embedder->digest().ToHex());
    done_(std::move(response));
  }

  const GatewayCore* const core_;
  const v1::EmbedRequest request_;
  const Done done_;
  std::atomic<int> left_;
  std::vector<StatusOr<std::vector<float>>> results_;  // each callback writes its own
};

Status ValidateEmbed(const v1::EmbedRequest& request, const RequestLimits& limits) {
  if (request.texts_size() == 0) return absl::InvalidArgumentError("texts is empty");
  if (request.texts_size() > GenerationServiceImpl::kMaxEmbedTexts) {
    return absl::InvalidArgumentError(absl::StrCat("texts has ", request.texts_size(), " entries, at most ",
                                                   GenerationServiceImpl::kMaxEmbedTexts, " are allowed"));
  }
  for (int i = 0; i < request.texts_size(); ++i) {
    if (request.texts(i).size() > limits.max_input_bytes) {
      return absl::InvalidArgumentError(absl::StrCat("texts[", i, "] has ", request.texts(i).size(),
                                                     " bytes, at most ", limits.max_input_bytes,
                                                     " are allowed"));
    }
  }
  return FromProto(request.context(), limits).status();
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
  Status status = ValidateEmbed(*request, core_->limits);
  if (status.ok()) {
    // A copy of the request, which is gRPC's and goes with the call.
    auto all =
        std::make_shared<EmbedAll>(core_, *request, [call, core = core_](StatusOr<v1::EmbedResponse> result) {
          core->metrics->CountRequest("Embed", result.status());
          call->Finish(std::move(result));
        });
    status = core_->compute->Submit([all] { all->Start(); });
    if (status.ok()) return call->reactor();
    status = WithRetryDelay(status, core_->admission->RetryDelayNow());
  }
  core_->metrics->CountRequest("Embed", status);
  call->Finish(status);
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
      *result.mutable_decision() = ToProto(RouteEvent{std::move(prepared->decision), "", ""});
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
