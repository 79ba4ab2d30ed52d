#include "kernels/cuda/pinned_pool.h"

namespace coterie::cuda {

StatusOr<PinnedPool::Block> PinnedPool::Take(size_t bytes, std::string_view what) {
  Block block;
  block.memory_ = TakeKept(bytes);
  if (block.memory_.data() == nullptr) {
    Unpin(bytes);
    StatusOr<PinnedMemory> fresh = PinnedMemory::Allocate(bytes, what);
    if (!fresh.ok() && absl::IsResourceExhausted(fresh.status())) {
      Unpin(most_bytes_);
      fresh = PinnedMemory::Allocate(bytes, what);
    }
    ASSIGN_OR_RETURN(block.memory_, std::move(fresh));
    const MutexLock lock(&mutex_);
    used_bytes_ += block.memory_.bytes();
  }
  block.bytes_ = bytes;
  block.pool_ = shared_from_this();
  return block;
}

PinnedMemory PinnedPool::TakeKept(size_t bytes) {
  const MutexLock lock(&mutex_);
  const auto found = kept_.lower_bound(bytes);
  if (found == kept_.end() || found->first > bytes + bytes / 4) return {};
  PinnedMemory memory = std::move(found->second);
  kept_.erase(found);
  kept_bytes_ -= memory.bytes();
  used_bytes_ += memory.bytes();
  return memory;
}

void PinnedPool::TakeBack(PinnedMemory memory) {
  std::multimap<size_t, PinnedMemory> gone;  // unpinned when the lock is released
  const MutexLock lock(&mutex_);
  const size_t bytes = memory.bytes();
  used_bytes_ -= bytes;
  gone = MakeRoomLocked(bytes);
  auto& to = used_bytes_ + kept_bytes_ + bytes <= most_bytes_ ? kept_ : gone;
  if (&to == &kept_) kept_bytes_ += bytes;
  to.emplace(bytes, std::move(memory));
}

std::multimap<size_t, PinnedMemory> PinnedPool::MakeRoomLocked(size_t more) {
  std::multimap<size_t, PinnedMemory> gone;
  while (!kept_.empty() && used_bytes_ + kept_bytes_ + more > most_bytes_) {
    kept_bytes_ -= kept_.begin()->first;
    gone.insert(kept_.extract(kept_.begin()));
  }
  return gone;
}

void PinnedPool::Unpin(size_t more) {
  std::multimap<size_t, PinnedMemory> gone;
  const MutexLock lock(&mutex_);
  gone = MakeRoomLocked(more);
}

size_t PinnedPool::kept_bytes() const {
  const MutexLock lock(&mutex_);
  return kept_bytes_;
}

}  // namespace coterie::cuda
