#include "gateway/answer/route_question.h"

#include <algorithm>
#include <utility>

#include "gateway/access/retry_delay.h"

namespace coterie::gateway {

std::shared_ptr<RouteQuestion> RouteQuestion::Create(const GatewayCore* core, AnswerRequest request,
                                                     Callback done) {
  return std::shared_ptr<RouteQuestion>(new RouteQuestion(core, std::move(request), std::move(done)));
}

namespace {

// The texts that are embedded for it: of a conversation each of the user's messages that is read, if none of
// them is known yet.
uint32_t CostOf(const GatewayCore& core, const AnswerRequest& request) {
  if (!RouterState::NeedsEmbedding(request.expert)) return 1;
  const auto n_messages = std::count_if(request.input.chat.begin(), request.input.chat.end(),
                                        [](const ChatMessage& message) { return message.role == "user"; });
  const auto n_read = std::min<size_t>(static_cast<size_t>(n_messages), core.conversation.max_turns);
  return std::max(1u, static_cast<uint32_t>(n_read));
}

}  // namespace

RouteQuestion::RouteQuestion(const GatewayCore* core, AnswerRequest request, Callback done)
    : AdmittedTask(core, "Route", Admission::Kind::kRoute, CostOf(*core, request), request.context,
                   request.deadline),
      request_(std::move(request)),
      done_callback_(std::move(done)) {}

void RouteQuestion::Run() {
  PreparationRequest preparation{std::move(request_.input), request_.expert, std::move(request_.routing), "",
                                 /*only_route=*/true};
  preparation.cache_salt = context_.cache_salt;
  preparation.trace = trace_;
  const auto self = std::static_pointer_cast<RouteQuestion>(shared_from_this());
  const Status status = Prepare(core_, std::move(preparation), over_, [self](StatusOr<Prepared> prepared) {
    if (!prepared.ok()) return self->Fail(prepared.status());
    MutexLock lock(&self->mutex_);
    self->decision_ = std::move(prepared->decision);
    self->EndLocked(absl::OkStatus());
  });
  if (!status.ok()) Fail(WithRetryDelay(status, core_->admission->RetryDelayNow(Admission::Kind::kRoute)));
}

void RouteQuestion::Ended(const Status& status) {
  const Callback done = std::move(done_callback_);
  done_callback_ = nullptr;
  if (status.ok()) {
    done(std::move(decision_));
  } else {
    done(status);
  }
}

}  // namespace coterie::gateway
