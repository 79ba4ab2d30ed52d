#ifndef COTERIE_TESTS_GPU_EMULATION_ARENA_H_
#define COTERIE_TESTS_GPU_EMULATION_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>

namespace coterie::emulation {

struct Allocation {
  size_t bytes = 0;
  bool pinned = false;  // host memory
  int device = 0;
  unsigned char* map = nullptr;  // pages of its own, between two that nobody may touch
  size_t map_bytes = 0;
};

// Device and pinned memory. Each allocation ends where its last page does (to 256 bytes, as cudaMalloc
// aligns), so that what reaches far beyond faults at once, and what reaches a few bytes beyond is found when
// it is freed. What is fresh is NaN; what was freed faults.
class Arena {
 public:
  // Null where the machine has no more.
  void* Allocate(size_t bytes, bool pinned, int device);
  // Faults where `pointer` is no allocation of that kind, or something was written around it.
  void Free(void* pointer, bool pinned);

  // The allocation that holds [pointer, pointer + bytes); null: none does.
  const Allocation* Find(const void* pointer, size_t bytes) const;
  // What is at an address that must not be touched, in words; none: it isn't ours.
  std::optional<const char*> Describe(const void* address) const;

  // With TheSettings().protect: only kernels and copies may touch device memory, between Open and Close.
  void Open();
  void Close();

 private:
  void Protect(int protection);

  std::map<uintptr_t, Allocation> allocations_;  // by their first address
  std::map<uintptr_t, size_t> freed_;            // pages, by their first address
  std::deque<uintptr_t> freed_order_;
  int n_open_ = 0;
};

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_ARENA_H_
