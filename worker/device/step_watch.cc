#include "worker/device/step_watch.h"

#include <utility>

namespace coterie::worker {
namespace {

constexpr int kLooks = 20;  // within the timeout

}  // namespace

StepWatch::StepWatch(const EngineStats* stats, Options options)
    : stats_(*stats), options_(std::move(options)), thread_([this] { Run(); }) {}

StepWatch::~StepWatch() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.Signal();
  }
  thread_.join();
}

bool StepLooks::SeesHang(uint64_t begun, uint64_t ended) {
  n_same_ = begun > ended && ended == std::exchange(seen_, ended) ? n_same_ + 1 : 0;
  return n_same_ >= n_looks_;
}

void StepWatch::Run() {
  StepLooks looks(kLooks);
  MutexLock lock(&mutex_);
  while (!stopping_) {
    if (changed_.WaitFor(&mutex_, options_.timeout / kLooks)) continue;
    const uint64_t ended = stats_.steps.load(std::memory_order_relaxed);
    if (!looks.SeesHang(stats_.steps_begun.load(std::memory_order_relaxed), ended)) continue;
    options_.on_hang(absl::UnavailableError(absl::StrCat("step ", ended + 1, " has not ended after ",
                                                         absl::FormatDuration(options_.timeout),
                                                         " (--device-timeout): the device hangs")));
    return;
  }
}

}  // namespace coterie::worker
