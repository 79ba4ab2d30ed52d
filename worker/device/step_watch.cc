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

void StepWatch::Run() {
  uint64_t seen = 0;
  int n_same = 0;  // looks in a row that saw the same step under way
  MutexLock lock(&mutex_);
  while (!stopping_) {
    if (changed_.WaitFor(&mutex_, options_.timeout / kLooks)) continue;
    const uint64_t ended = stats_.steps.load(std::memory_order_relaxed);
    const bool under_way = stats_.steps_begun.load(std::memory_order_relaxed) > ended;
    n_same = under_way && ended == std::exchange(seen, ended) ? n_same + 1 : 0;
    if (n_same < kLooks) continue;
    options_.on_hang(absl::UnavailableError(absl::StrCat("step ", ended + 1, " has not ended after ",
                                                         absl::FormatDuration(options_.timeout),
                                                         " (--device-timeout): the device hangs")));
    return;
  }
}

}  // namespace coterie::worker
