#ifndef COTERIE_TESTS_GPU_EMULATION_LANE_H_
#define COTERIE_TESTS_GPU_EMULATION_LANE_H_

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <deque>
#include <vector>

#include "emulated_device_code.h"
#include "fiber.h"

namespace coterie::emulation {

constexpr int kLanes = 32;
constexpr int kMaxWords = 12;  // of one lane in one function of a warp

// What the lanes of a warp do together. A lane cannot be more than one round ahead of another, so results of
// two rounds are held.
struct Warp {
  WarpOp op = WarpOp::kBarrier;
  int n_arrived = 0;
  int n_lanes = 0;  // fewer in the last warp of an odd block
  uint64_t round = 0;
  std::array<std::array<uint32_t, kMaxWords>, kLanes> in;
  std::array<std::array<std::array<uint32_t, 4>, kLanes>, 2> out;  // [round % 2]
  std::array<char, 2> order = {};  // what the sanitizer orders a barrier by, [round % 2]
};

struct Barrier {
  int n_arrived = 0;
  uint64_t generation = 0;
  std::array<char, 2> order = {};  // by generation: one for all would order the lanes one after the other
};

struct Block;

struct Lane {
  LanePosition position;
  Block* block = nullptr;
  Warp* warp = nullptr;
  int lane = 0;
  Fiber* fiber = nullptr;
  bool done = false;
  bool paused = false;  // waits for another block
  // What it waits for: until *waited moves on from `waited_from`.
  const uint64_t* waited = nullptr;
  uint64_t waited_from = 0;
  // Copies by cp.async that were not waited for yet, the oldest first, and their groups' sizes; the last
  // group is open.
  std::deque<LaterCopy> copies;
  std::deque<size_t> copy_groups = {0};
};

struct Block {
  std::vector<Lane> lanes;
  std::vector<Warp> warps;
  std::array<Barrier, 16> barriers;
  unsigned char* shared = nullptr;
  char start = 0;  // what the sanitizer orders the making of this block before its lanes by
  int n_done = 0;
};

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_LANE_H_
