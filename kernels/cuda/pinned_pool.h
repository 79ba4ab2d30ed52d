#ifndef COTERIE_KERNELS_CUDA_PINNED_POOL_H_
#define COTERIE_KERNELS_CUDA_PINNED_POOL_H_

#include <cstddef>
#include <map>
#include <memory>
#include <utility>

#include "common/mutex.h"
#include "kernels/cuda/memory.h"

namespace coterie::cuda {

// Pinned host memory of adapters, kept for the next one when an adapter goes. The driver pins and unpins some
// gigabytes a second and lets nobody launch kernels meanwhile, so a worker that exchanges adapters all the
// time should do neither. Thread-safe; blocks keep their pool alive.
class PinnedPool : public std::enable_shared_from_this<PinnedPool> {
 public:
  // `most_bytes`: what is handed out and what is kept come to no more, unless what is handed out does by
  // itself.
  explicit PinnedPool(size_t most_bytes) : most_bytes_(most_bytes) {}

  class Block {
   public:
    Block() = default;
    ~Block() {
      if (pool_ != nullptr) pool_->TakeBack(std::move(memory_));
    }
    Block(Block&& other) noexcept = default;
    Block& operator=(Block&& other) noexcept {
      std::swap(pool_, other.pool_);
      std::swap(memory_, other.memory_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }

    size_t bytes() const { return bytes_; }  // as asked for
    void* data() const { return memory_.data(); }
    template <class T>
    T* As() const {
      return memory_.As<T>();
    }

   private:
    friend class PinnedPool;
    std::shared_ptr<PinnedPool> pool_;
    PinnedMemory memory_;
    size_t bytes_ = 0;
  };

  // Holds what was there before. ResourceExhausted naming `what` and the bytes that were not there.
  StatusOr<Block> Take(size_t bytes, std::string_view what);

  size_t kept_bytes() const;

 private:
  void TakeBack(PinnedMemory memory);
  // The smallest kept block that holds `bytes` and wastes little; empty where there is none.
  PinnedMemory TakeKept(size_t bytes);
  // Gives kept blocks back to the system until `more` bytes fit beside the rest.
  void Unpin(size_t more);
  // Takes kept blocks out until `more` bytes fit beside the rest; their destruction unpins them.
  std::multimap<size_t, PinnedMemory> MakeRoomLocked(size_t more) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const size_t most_bytes_;
  mutable Mutex mutex_;
  size_t used_bytes_ ABSL_GUARDED_BY(mutex_) = 0;  // of blocks that are handed out
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::multimap<size_t, PinnedMemory> kept_ ABSL_GUARDED_BY(mutex_);  // by size
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_PINNED_POOL_H_
