#include "worker/gang/gangs.h"

#include <algorithm>
#include <utility>

namespace coterie {

Status Gangs::Start(const Sequence& sequence) {
  std::vector<std::unique_ptr<GangMember>> done;  // joined when the lock is let go
  MutexLock lock(&mutex_);
  done = TakeDone();
  if (static_cast<int>(members_.size() + ended_.size()) >= options_.max_gangs) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this worker is in ", members_.size() + ended_.size(),
                     " gangs, the most it takes (--max-gangs); try again later"));
  }
  if (sequence.request.gang->rank == 0) RETURN_IF_ERROR(meeting_->Open(*sequence.request.gang));
  members_.emplace(sequence.request.id,
                   std::make_unique<GangMember>(options_, engine_, meeting_, traffic_, sequence));
  n_gangs_.store(static_cast<int>(members_.size()), std::memory_order_relaxed);
  return absl::OkStatus();
}

void Gangs::Drop(uint64_t engine_id) {
  OutputEvent finish;
  finish.kind = OutputEvent::Kind::kFinish;
  finish.id = engine_id;
  OnEvent(finish);
}

void Gangs::OnEvent(const OutputEvent& event) {
  if (n_gangs() == 0) return;
  if (event.kind != OutputEvent::Kind::kLogits && event.kind != OutputEvent::Kind::kFinish) return;
  std::vector<std::unique_ptr<GangMember>> done;  // joined when the lock is let go
  MutexLock lock(&mutex_);
  const auto found = members_.find(event.id);
  if (found == members_.end()) return;
  if (event.kind == OutputEvent::Kind::kLogits) return found->second->OnLogits(event.position);
  found->second->OnFinished();
  ended_.push_back(std::move(found->second));
  members_.erase(found);
  n_gangs_.store(static_cast<int>(members_.size()), std::memory_order_relaxed);
  done = TakeDone();
}

std::vector<std::unique_ptr<GangMember>> Gangs::TakeDone() {
  std::vector<std::unique_ptr<GangMember>> done;
  std::erase_if(ended_, [&](std::unique_ptr<GangMember>& member) {
    if (!member->done()) return false;
    done.push_back(std::move(member));
    return true;
  });
  return done;
}

}  // namespace coterie
