#include "worker/engine/block_allocator.h"

#include "common/check.h"

namespace coterie {

BlockAllocator::BlockAllocator(int n_blocks) : users_(n_blocks, 0) {
  free_.reserve(n_blocks);
  for (int32_t block = n_blocks - 1; block >= 0; --block) free_.push_back(block);
}

int32_t BlockAllocator::Allocate() {
  if (free_.empty()) return -1;
  const int32_t block = free_.back();
  free_.pop_back();
  users_[block] = 1;
  return block;
}

void BlockAllocator::AddUser(int32_t block) { ++users_[block]; }

bool BlockAllocator::DropUser(int32_t block) {
  COTERIE_CHECK(users_[block] > 0) << "block " << block << " has no user to drop";
  return --users_[block] == 0;
}

void BlockAllocator::Free(int32_t block) {
  COTERIE_CHECK(users_[block] == 0) << "block " << block << " freed while in use";
  COTERIE_CHECK(free_.size() < users_.size()) << "block " << block << " freed twice";
  free_.push_back(block);
}

}  // namespace coterie
