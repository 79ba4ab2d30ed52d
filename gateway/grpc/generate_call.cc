#include "gateway/grpc/generate_call.h"

#include <iterator>
#include <utility>

#include "common/clock.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/rpc_status.h"
#include "model/text/stop_matcher.h"
#include "net/grpc_time.h"

namespace coterie::gateway {
namespace {

void Append(TextEvent&& from, TextEvent* to) {
  to->text += from.text;
  to->token_ids.insert(to->token_ids.end(), from.token_ids.begin(), from.token_ids.end());
  to->logprobs.insert(to->logprobs.end(), std::make_move_iterator(from.logprobs.begin()),
                      std::make_move_iterator(from.logprobs.end()));
}

}  // namespace

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateCall::Start(const GatewayCore* core,
                                                                    grpc::CallbackServerContext* context,
                                                                    const v1::GenerateRequest& request) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(core));
  call->self_ = call;
  call->Begin(context, request);
  return call.get();
}

void GenerateCall::Begin(grpc::CallbackServerContext* context, const v1::GenerateRequest& proto) {
  StatusOr<AnswerRequest> request = FromProto(proto, core_->limits, core_->text->vocab_size());
  std::shared_ptr<const StopStrings> stops;
  Status status = request.status();
  if (status.ok() && !request->sampling.stop.empty()) {
    StatusOr<std::shared_ptr<const StopStrings>> created = StopStrings::Create(request->sampling.stop);
    status = created.ok() ? absl::OkStatus() : Annotate(created.status(), "sampling.stop");
    if (created.ok()) stops = *std::move(created);
  }
  if (!status.ok()) {
    core_->metrics->CountRequest("Generate", status);
    return OnAnswerEnd(status);
  }
  request->deadline = net::DeadlineOf(*context);
  generation_ = Generation::Create(core_, *std::move(request), std::move(stops), shared_from_this());
  WatchStall();
  generation_->Begin();
}

void GenerateCall::OnEvent(AnswerEvent event) {
  MutexLock lock(&mutex_);
  if (end_) return;
  TextEvent* text = std::get_if<TextEvent>(&event);
  TextEvent* last = pending_.empty() ? nullptr : std::get_if<TextEvent>(&pending_.back());
  if (text != nullptr && last != nullptr) {
    Append(std::move(*text), last);
  } else {
    pending_.push_back(std::move(event));
  }
  PumpLocked();
}

void GenerateCall::OnAnswerEnd(const Status& status) {
  MutexLock lock(&mutex_);
  if (end_) return;
  end_ = status;
  PumpLocked();
}

void GenerateCall::PumpLocked() {
  if (is_writing_ || finished_) return;
  if (!pending_.empty()) {
    const TextEvent* text = std::get_if<TextEvent>(&pending_.front());
    tokens_in_write_ = text == nullptr ? 0 : static_cast<uint32_t>(text->token_ids.size());
    writing_ = ToProto(std::move(pending_.front()));
    pending_.pop_front();
    is_writing_ = true;
    write_began_ = MonotonicNow();
    StartWrite(&writing_);
  } else if (end_) {
    finished_ = true;
    core_->timers->Cancel(stall_timer_);
    Finish(ToGrpc(*end_));
  }
}

void GenerateCall::OnWriteDone(bool ok) {
  uint32_t n_tokens = 0;
  {
    MutexLock lock(&mutex_);
    is_writing_ = false;
    n_tokens = std::exchange(tokens_in_write_, 0);
    if (!ok) {
      // The client is gone; OnCancel says the rest.
      pending_.clear();
      if (!end_) end_ = absl::CancelledError("the client is gone");
    }
    PumpLocked();
  }
  if (n_tokens > 0 && ok) generation_->Acknowledge(n_tokens);
}

// A client that reads nothing holds a place and KV blocks of a worker: not forever.
void GenerateCall::WatchStall() {
  MutexLock lock(&mutex_);
  if (finished_) return;
  stall_timer_ = core_->timers->After(core_->client_stall_timeout / 4, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    bool stalled = false;
    {
      MutexLock lock(&self->mutex_);
      stalled = self->is_writing_ && MonotonicNow() - self->write_began_ > self->core_->client_stall_timeout;
    }
    if (!stalled) return self->WatchStall();
    self->generation_->Fail(absl::AbortedError(absl::StrCat(
        "the client read nothing for ", absl::FormatDuration(self->core_->client_stall_timeout))));
  });
}

void GenerateCall::OnCancel() {
  {
    MutexLock lock(&mutex_);
    pending_.clear();
    if (!end_) end_ = absl::CancelledError("the client cancelled");
    PumpLocked();
  }
  if (generation_ != nullptr) generation_->Cancel();
}

void GenerateCall::OnDone() {
  // The generation may have ended without us (a write failed) and must not outlive the call.
  if (generation_ != nullptr) generation_->Cancel();
  const std::shared_ptr<GenerateCall> self = std::move(self_);
  generation_.reset();
}

}  // namespace coterie::gateway
