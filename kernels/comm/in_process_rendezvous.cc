#include "kernels/comm/in_process_rendezvous.h"

#include <algorithm>

#include "common/quoted.h"

namespace coterie {

Status InProcessRendezvous::CheckEpoch(const RendezvousKey& key) const {
  const auto newest = newest_.find(key.group);
  if (newest == newest_.end() || newest->second <= key.epoch) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat("epoch ", key.epoch, " of group ", Quoted(key.group),
                                                    " is past; it is forming under epoch ", newest->second));
}

Status InProcessRendezvous::Publish(const RendezvousKey& key, const std::string& text) {
  if (text.size() > kMaxBytes) {
    return absl::InvalidArgumentError(absl::StrCat("a text of ", text.size(), " bytes under ",
                                                   Quoted(key.topic), "; a rendezvous takes at most ",
                                                   kMaxBytes));
  }
  MutexLock lock(&mutex_);
  RETURN_IF_ERROR(CheckEpoch(key));
  auto [newest, first] = newest_.try_emplace(key.group, key.epoch);
  if (newest->second < key.epoch) {
    newest->second = key.epoch;
    texts_.erase(texts_.lower_bound({key.group, 0, 0, ""}),
                 texts_.lower_bound({key.group, key.epoch, 0, ""}));
  }
  if (!texts_.try_emplace(key, text).second) {
    return absl::AlreadyExistsError(absl::StrCat("somebody is member ", key.rank, " of group ",
                                                 Quoted(key.group), ", epoch ", key.epoch, " already"));
  }
  published_.SignalAll();
  return absl::OkStatus();
}

StatusOr<std::string> InProcessRendezvous::Await(const RendezvousKey& key, MonotonicTime deadline,
                                                 const AbortFlag& abort) {
  MutexLock lock(&mutex_);
  for (;;) {
    RETURN_IF_ERROR(CheckEpoch(key));
    if (const auto text = texts_.find(key); text != texts_.end()) return text->second;
    if (abort.raised()) return absl::CancelledError("aborted");
    const MonotonicTime now = MonotonicNow();
    if (now >= deadline) return absl::DeadlineExceededError("nothing was published in time");
    published_.WaitUntil(&mutex_, std::min(deadline, now + kAbortSlice));
  }
}

void InProcessRendezvous::Forget(const std::string& group) {
  MutexLock lock(&mutex_);
  newest_.erase(group);
  texts_.erase(texts_.lower_bound({group, 0, 0, ""}),
               texts_.upper_bound({group, UINT64_MAX, INT32_MAX, "~"}));
}

size_t InProcessRendezvous::size() const {
  MutexLock lock(&mutex_);
  return texts_.size();
}

}  // namespace coterie
