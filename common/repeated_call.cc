#include "common/repeated_call.h"

#include <utility>

namespace coterie {

RepeatedCall::RepeatedCall(absl::Duration period, std::function<void()> call)
    : period_(period), call_(std::move(call)), thread_([this] { Run(); }) {}

RepeatedCall::~RepeatedCall() {
  {
    MutexLock lock(&mutex_);
    stopped_ = true;
  }
  wake_.SignalAll();
  thread_.join();
}

void RepeatedCall::Run() {
  while (true) {
    {
      MutexLock lock(&mutex_);
      if (!stopped_) wake_.WaitFor(&mutex_, period_);
      if (stopped_) return;
    }
    call_();
  }
}

}  // namespace coterie
