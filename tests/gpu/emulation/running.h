#ifndef COTERIE_TESTS_GPU_EMULATION_RUNNING_H_
#define COTERIE_TESTS_GPU_EMULATION_RUNNING_H_

#include <cstdint>
#include <string>

#include "fiber.h"
#include "grid.h"
#include "lane.h"

// What lanes (lane.cc) and the scheduler of blocks (grid.cc) share.
namespace coterie::emulation {

constexpr uint32_t kAllReady = 0xFFFFFFFFu;

// What runs: one grid at a time, on one host thread.
struct Running {
  const Grid* grid = nullptr;
  Lane* lane = nullptr;
  Context scheduler;
  bool random = false;
  bool leaves_block = false;  // the lane that gave its turn back wants other blocks to run before its own
  uint64_t state = 1;         // of the random numbers
  char start = 0,
       finish = 0;  // what orders the grid after what its stream did before, and before what it does next

  uint64_t Random() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
  }
};
extern Running* running;

// " (block 1,0,0 thread 3)"
std::string Where(const Lane& lane);
// Leaves `from` for a lane; returns when somebody switches back.
void Enter(Context* from, Lane* lane);
// The turns of a warp's lanes as they stand in `turns`, or in random order.
void SetTurns(Warp* warp);
void Shuffle(Warp* warp);
// What a lane's fiber does, from beginning to end.
void RunLane(void* lane);

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_RUNNING_H_
