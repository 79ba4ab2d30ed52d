#ifndef COTERIE_TESTS_GATEWAY_ASYNC_ANSWER_H_
#define COTERIE_TESTS_GATEWAY_ASYNC_ANSWER_H_

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/clock.h"
#include "common/mutex.h"
#include "coterie/v1/generation.grpc.pb.h"
#include "net/grpc_time.h"

namespace coterie::gateway::testing {

// An answer that comes by itself, its client reading on unless it was told not to.
class AsyncAnswer final : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  AsyncAnswer(v1::GenerationService::Stub* stub, v1::GenerateRequest request, bool reads = true,
              absl::Duration deadline = absl::Seconds(60))
      : request_(std::move(request)), reads_(reads) {
    context_.set_deadline(net::GrpcDeadline(deadline));
    stub->async()->Generate(&context_, &request_, this);
    AddHold();  // reads may start from elsewhere, or never
    if (reads_) StartRead(&response_);
    StartCall();
  }
  ~AsyncAnswer() override {
    context_.TryCancel();
    if (!reads_) RemoveHold();
    MutexLock lock(&mutex_);
    while (!done_) changed_.Wait(&mutex_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) return RemoveHold();
    n_tokens_ += static_cast<uint32_t>(response_.delta().token_ids_size());
    {
      MutexLock lock(&mutex_);
      const MonotonicTime now = MonotonicNow();
      longest_gap_ = std::max(longest_gap_, now - last_);
      last_ = now;
    }
    StartRead(&response_);
  }
  void OnDone(const grpc::Status& status) override {
    MutexLock lock(&mutex_);
    status_ = status;
    done_ = true;
    changed_.SignalAll();
  }
  grpc::Status Wait() {
    MutexLock lock(&mutex_);
    while (!done_) changed_.Wait(&mutex_);
    return status_;
  }
  uint32_t n_tokens() const { return n_tokens_; }
  // Between two messages, or before the first.
  absl::Duration longest_gap() const {
    MutexLock lock(&mutex_);
    return longest_gap_;
  }

 private:
  const v1::GenerateRequest request_;
  const bool reads_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  std::atomic<uint32_t> n_tokens_ = 0;
  mutable Mutex mutex_;
  CondVar changed_;
  MonotonicTime last_ = MonotonicNow();
  absl::Duration longest_gap_;
  bool done_ = false;
  grpc::Status status_;
};

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_ASYNC_ANSWER_H_
