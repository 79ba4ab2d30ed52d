#include "gateway/publish/own_routing_view.h"

#include <memory>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/answer/embed_texts.h"
#include "gateway/answer/route_question.h"

namespace coterie::gateway {
namespace {

// Of one question to the gateway; others' work may stand before it.
constexpr absl::Duration kPatience = absl::Minutes(1);
constexpr absl::Duration kLook = absl::Milliseconds(50);  // whether somebody still wants it

// One result that comes on another thread.
template <typename Value>
struct Awaited {
  Mutex mutex;
  CondVar changed;
  std::optional<StatusOr<Value>> result ABSL_GUARDED_BY(mutex);

  void Set(StatusOr<Value> value) {
    MutexLock lock(&mutex);
    result = std::move(value);
    changed.SignalAll();
  }
};

// Runs a task (EmbedTexts, RouteQuestion) to its end; it tells `awaited`.
template <typename Value, typename Task>
StatusOr<Value> Await(const std::shared_ptr<Awaited<Value>>& awaited, const std::shared_ptr<Task>& task,
                      const CancelFlag& cancelled) {
  task->Begin();
  const MonotonicTime until = MonotonicNow() + kPatience;
  for (;;) {
    {
      MutexLock lock(&awaited->mutex);
      if (!awaited->result) awaited->changed.WaitFor(&awaited->mutex, kLook);
      if (awaited->result) return *std::move(awaited->result);
    }
    if (!cancelled.is_set() && MonotonicNow() < until) continue;
    task->Cancel();
    if (cancelled.is_set()) return absl::CancelledError("the gateway is about to end");
    return absl::DeadlineExceededError(
        absl::StrCat("this gateway did not get to it within ", absl::FormatDuration(kPatience)));
  }
}

}  // namespace

StatusOr<EmbeddedTexts> OwnRoutingView::Embed(std::span<const std::string> texts) {
  using Vectors = std::vector<std::vector<float>>;
  if (core_->embedder == nullptr) {
    return absl::FailedPreconditionError(
        "this gateway runs without an embedder (--embedder), which makes prototypes of examples");
  }
  EmbedTextsRequest request;
  request.texts.assign(texts.begin(), texts.end());
  request.deadline = MonotonicNow() + kPatience;
  RETURN_IF_ERROR(ValidateEmbedTexts("examples", request.texts, core_->limits));
  RETURN_IF_ERROR(CompleteContext(&request.context, core_->limits));
  const auto awaited = std::make_shared<Awaited<Vectors>>();
  const auto task = EmbedTexts::Create(
      core_, std::move(request), [awaited](StatusOr<Vectors> vectors) { awaited->Set(std::move(vectors)); });
  ASSIGN_OR_RETURN(const Vectors vectors, Await<Vectors>(awaited, task, cancelled_));
  EmbeddedTexts embedded;
  embedded.embedder = core_->embedder->digest();
  embedded.dim = core_->embedder->dim();
  for (const std::vector<float>& vector : vectors) {
    embedded.values.insert(embedded.values.end(), vector.begin(), vector.end());
  }
  return embedded;
}

StatusOr<std::optional<Rival>> OwnRoutingView::NearestRival(const std::string& text,
                                                            std::string_view except) {
  AnswerRequest request;
  request.input.prompt = text;
  request.routing.policy = "nearest";  // cosines, whatever the gateway's own policy compares
  request.context.no_shadow = true;
  request.deadline = MonotonicNow() + kPatience;
  RETURN_IF_ERROR(CompleteRequest(&request, core_->limits, /*vocab_size=*/0));
  const auto awaited = std::make_shared<Awaited<Decision>>();
  const auto task = RouteQuestion::Create(core_, std::move(request), [awaited](StatusOr<Decision> decision) {
    awaited->Set(std::move(decision));
  });
  ASSIGN_OR_RETURN(const Decision decision, Await<Decision>(awaited, task, cancelled_));
  for (const Decision::Weighed& candidate : decision.candidates) {
    if (candidate.name != except) return Rival{candidate.name, candidate.score};
  }
  return std::nullopt;
}

}  // namespace coterie::gateway
