#ifndef COTERIE_TESTS_GPU_EMULATION_LANE_H_
#define COTERIE_TESTS_GPU_EMULATION_LANE_H_

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <vector>

#include "emulated_device_code.h"
#include "fiber.h"

namespace coterie::emulation {

constexpr int kLanes = 32;

struct Block;
struct Warp;

struct Lane {
  LanePosition position;
  Block* block = nullptr;
  Warp* warp = nullptr;
  int lane = 0;     // of its warp
  int turn = 0;     // when it runs among the lanes of its warp
  int n_polls = 0;  // of counters, since it last let others run
  Fiber* fiber = nullptr;
  // Copies by cp.async that were not waited for yet, from `first_copy` on, the oldest first; and where the
  // committed groups among them end.
  std::vector<LaterCopy> copies;
  size_t first_copy = 0;
  std::vector<size_t> group_ends;
  size_t first_group = 0;
  // What orders relaxed atomics on both sides of fences (the thread sanitizer doesn't know fences).
  bool fenced = false;
  std::vector<void*> seen_counters;
};

// What the lanes of a warp do together. Their words stay where they are, on the stacks of the lanes, which
// all wait.
struct Warp {
  WarpOp op = WarpOp::kBarrier;
  int n_arrived = 0;
  uint64_t round = 0;
  // Lanes in the order of their turns. Bit t of a mask: the one whose turn is t.
  std::array<Lane*, kLanes> turns = {};
  uint32_t ready = 0;
  uint32_t paused = 0;  // they wait for another block
  std::array<const uint32_t*, kLanes> in = {};
  std::array<uint32_t*, kLanes> out = {};
  std::array<char, 2> order = {};  // what the sanitizer orders a barrier by, [round % 2]
};

constexpr int kMaxWarps = 32;  // of a block

struct Barrier {
  int n_arrived = 0;
  uint64_t generation = 0;
  std::array<uint32_t, kMaxWarps> waiting = {};  // masks of turns
  // What the sanitizer orders each generation by. One for all would order the lanes one after the other; and
  // which threads meet at a named barrier may change from one generation to the next, so that few of them
  // share one.
  std::array<char, 16> order = {};
};

struct Block {
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::vector<Warp*> order;  // in which warps get their turn
  std::array<Barrier, 16> barriers;
  unsigned char* shared = nullptr;
  char start = 0;  // what the sanitizer orders the making of this block before its lanes by
  int n_done = 0;
  int n_meetings = 0;  // at which other blocks might have run in between
};

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_LANE_H_
