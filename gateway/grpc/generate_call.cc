#include "gateway/grpc/generate_call.h"

#include <utility>

#include "common/clock.h"
#include "gateway/core/apply_pass.h"
#include "gateway/grpc/call_metadata.h"
#include "gateway/grpc/check_caller.h"
#include "gateway/grpc/convert_client.h"
#include "gateway/grpc/rpc_status.h"
#include "net/grpc_time.h"

namespace coterie::gateway {

grpc::ServerWriteReactor<v1::GenerateResponse>* GenerateCall::Start(const GatewayCore* core,
                                                                    grpc::CallbackServerContext* context,
                                                                    const v1::GenerateRequest& request) {
  std::shared_ptr<GenerateCall> call(new GenerateCall(core));
  call->self_ = call;
  call->context_ = context;
  call->Begin(context, request);
  return call.get();
}

void GenerateCall::Begin(grpc::CallbackServerContext* context, const v1::GenerateRequest& proto) {
  StatusOr<std::shared_ptr<AccessPass>> pass = CheckCaller(*core_, *context);
  StatusOr<AnswerRequest> request =
      pass.ok() ? FromProto(proto, core_->limits, core_->text->vocab_size()) : pass.status();
  if (request.ok()) {
    ApplyPass(*std::move(pass), &request->context, &request->routing);
    TakeCallersTrace(*context, !proto.context().trace_id().empty(), &*request);
    request->deadline = net::DeadlineOf(*context);
    request->context.connection = context->peer();
  }
  StatusOr<std::shared_ptr<Generation>> generation =
      request.ok() ? Generation::Create(core_, *std::move(request), shared_from_this()) : request.status();
  if (!generation.ok()) {
    core_->metrics->CountRequest("Generate", generation.status());
    return OnAnswerEnd(generation.status());
  }
  generation_ = *std::move(generation);
  WatchStall();
  generation_->Begin();
}

void GenerateCall::OnEvent(AnswerEvent event) {
  MutexLock lock(&mutex_);
  if (end_) return;
  pending_.Push(std::move(event));
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
    AnswerEvent event = pending_.Pop();
    const TextEvent* text = std::get_if<TextEvent>(&event);
    tokens_in_write_ = text == nullptr ? 0 : static_cast<uint32_t>(text->token_ids.size());
    writing_ = ToProto(std::move(event));
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
      pending_.Clear();
      if (!end_) end_ = absl::CancelledError("the client is gone");
    }
    PumpLocked();
  }
  if (n_tokens > 0 && ok) generation_->Acknowledge(n_tokens);
}

// A client that reads nothing holds memory here and KV blocks of a worker: not forever.
void GenerateCall::WatchStall() {
  MutexLock lock(&mutex_);
  if (finished_) return;
  stall_timer_ = core_->timers->After(core_->client_stall_timeout / 4, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock lock(&self->mutex_);
      if (self->finished_) return;
      if (self->is_writing_ && MonotonicNow() - self->write_began_ > self->core_->client_stall_timeout) {
        // Not by an error, which would wait behind what is not read.
        self->context_->TryCancel();
        return;
      }
    }
    self->WatchStall();
  });
}

void GenerateCall::OnCancel() {
  {
    MutexLock lock(&mutex_);
    pending_.Clear();
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
