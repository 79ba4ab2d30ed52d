#ifndef COTERIE_WORKER_ENGINE_BLOCK_ALLOCATOR_H_
#define COTERIE_WORKER_ENGINE_BLOCK_ALLOCATOR_H_

#include <cstdint>
#include <vector>

namespace coterie {

// Hands out KV block ids 0 .. n_blocks-1 and counts who uses each. Every operation is O(1) and allocates
// nothing. A block whose last user lets go is not free yet: the caller decides whether it stays (cached) or
// is Freed. Not thread-safe: the engine's thread owns it.
class BlockAllocator {
 public:
  explicit BlockAllocator(int n_blocks);

  // A block with one user, or -1 when none is free.
  int32_t Allocate();
  void AddUser(int32_t block);
  // True when that was the last user.
  bool DropUser(int32_t block);
  // Back to the free list; the block must have no user.
  void Free(int32_t block);

  int users(int32_t block) const { return users_[block]; }
  int n_free() const { return static_cast<int>(free_.size()); }
  int n_blocks() const { return static_cast<int>(users_.size()); }

 private:
  std::vector<int32_t> users_;  // [n_blocks]
  std::vector<int32_t> free_;   // a stack: recently used blocks are warm in the CPU's caches
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_BLOCK_ALLOCATOR_H_
