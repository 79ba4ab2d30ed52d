// What lanes call. Compiled without the thread sanitizer, as grid.cc is.
#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

#include "control.h"
#include "running.h"
#include "warp_op.h"

namespace coterie::emulation {

const LanePosition* this_lane = nullptr;
Running* running = nullptr;

namespace {

constexpr int kMostPolls = 1 << 22;

uint64_t streamed_bytes = 0;

// Where barriers return to, in the order in which lanes came there first: see DropBarrier.
bool counts_barriers = false, counts_all_barriers = false;
int dropped_barrier = kNoBarrier;
std::array<const void*, 256> barriers_seen;  // lanes allocate nothing: the thread sanitizer would see it
int n_barriers_seen = 0;
bool IsDropped(const void* barrier) {
  const auto end = barriers_seen.begin() + n_barriers_seen;
  const auto found = std::find(barriers_seen.begin(), end, barrier);
  if (found == end) {
    if (found == barriers_seen.end()) Fault("more barriers than DropBarrier counts");
    *found = barrier;
    ++n_barriers_seen;
  }
  return found - barriers_seen.begin() == dropped_barrier;
}

void ToScheduler(Lane* lane) {
  running->lane = nullptr;
  this_lane = nullptr;
  Switch(lane->fiber->context(), &running->scheduler);
}

// Lets others run until this lane is ready again and it is its turn: the lanes of its warp whose turn is
// later, then the earlier ones; where none is ready, other warps.
void GiveTurn(Lane* lane) {
  const Warp& warp = *lane->warp;
  const uint32_t later = lane->turn == kLanes - 1 ? 0 : warp.ready & kAllReady << (lane->turn + 1);
  const uint32_t candidates = later != 0 ? later : warp.ready;
  if (candidates == 0) {
    ToScheduler(lane);
  } else {
    Lane* const next = warp.turns[static_cast<size_t>(__builtin_ctz(candidates))];
    if (next != lane) Enter(lane->fiber->context(), next);
  }
}

// Whether other blocks run first, at the n-th place of a block where they could see what it did or did not do
// yet. Often at first; loops that count in global memory would else do little but switch.
bool LeavesNow(Block* block) {
  if (!running->random) return false;
  const auto n = static_cast<uint64_t>(++block->n_meetings);
  return running->Random() % std::max<uint64_t>(2, n / 16) == 0;
}

// All lanes of a warp are ready, and one of them runs: the first in turn goes on.
void Restart(Lane* lane) {
  Warp* const warp = lane->warp;
  if (running->random) {
    Shuffle(warp);
    if (running->Random() % 8 == 0) return ToScheduler(lane);  // other warps run in between
  }
  Lane* const first = warp->turns[0];
  if (first != lane) Enter(lane->fiber->context(), first);
}

}  // namespace

std::string Where(const Lane& lane) {
  const LanePosition& p = lane.position;
  char text[96];
  std::snprintf(text, sizeof(text), " (block %u,%u,%u thread %u)", p.block_idx.x, p.block_idx.y,
                p.block_idx.z, p.thread_idx.x);
  return text;
}

void Enter(Context* from, Lane* lane) {
  running->lane = lane;
  this_lane = &lane->position;
  Switch(from, lane->fiber->context());
}

void SetTurns(Warp* warp) {
  for (int turn = 0; turn < kLanes; ++turn) warp->turns[static_cast<size_t>(turn)]->turn = turn;
}

void Shuffle(Warp* warp) {
  for (size_t i = kLanes - 1; i > 0; --i) std::swap(warp->turns[i], warp->turns[running->Random() % (i + 1)]);
  SetTurns(warp);
}

void RunLane(void* argument) {
  auto* const lane = static_cast<Lane*>(argument);
  Acquire(&running->start);
  Acquire(&lane->block->start);
  running->grid->lane();
  Release(&running->finish);
  lane->warp->ready &= ~(1u << lane->turn);
  ++lane->block->n_done;
  GiveTurn(lane);
}

void WarpTogether(WarpOp op, const uint32_t* in, uint32_t* out, int n_out) {
  Lane& lane = *running->lane;
  Warp& warp = *lane.warp;
  if (warp.n_arrived == 0) {
    warp.op = op;
  } else if (warp.op != op) {
    Fault("lanes of one warp call different functions of the warp");
  }
  warp.in[static_cast<size_t>(lane.lane)] = in;
  warp.out[static_cast<size_t>(lane.lane)] = out;
  char* const order = &warp.order[warp.round % 2];
  // A shuffle moves values between lanes; what else they wrote it does not order, nor do the other functions.
  if (op == WarpOp::kBarrier) Release(order);
  if (++warp.n_arrived < kLanes) {
    warp.ready &= ~(1u << lane.turn);
    GiveTurn(&lane);
  } else {
    Compute(warp, n_out);
    warp.n_arrived = 0;
    ++warp.round;
    warp.ready = kAllReady;
    Restart(&lane);
  }
  if (op == WarpOp::kBarrier) Acquire(order);
}

void BarrierOfWarp() {
  if (counts_all_barriers && IsDropped(__builtin_return_address(0))) return;
  WarpTogether(WarpOp::kBarrier, nullptr, nullptr, 0);
}

void BarrierOfBlock(int id, int n_threads) {
  if (counts_barriers && IsDropped(__builtin_return_address(0))) return;
  Lane& lane = *running->lane;
  Block& block = *lane.block;
  if (id < 0 || id >= static_cast<int>(block.barriers.size())) {
    Fault("named barrier " + std::to_string(id) + " of 16");
  }
  Barrier& barrier = block.barriers[static_cast<size_t>(id)];
  const int expected = n_threads > 0 ? n_threads : static_cast<int>(block.lanes.size());
  if (expected % kLanes != 0 || expected > static_cast<int>(block.lanes.size())) {
    Fault("a barrier of " + std::to_string(expected) + " threads: whole warps, of a block of " +
          std::to_string(block.lanes.size()));
  }
  char* const order = &barrier.order[barrier.generation % barrier.order.size()];
  Release(order);
  Warp& warp = *lane.warp;
  if (++barrier.n_arrived < expected) {
    barrier.waiting[static_cast<size_t>(&warp - block.warps.data())] |= 1u << lane.turn;
    warp.ready &= ~(1u << lane.turn);
    GiveTurn(&lane);
  } else {
    barrier.n_arrived = 0;
    ++barrier.generation;
    for (size_t w = 0; w < block.warps.size(); ++w) {
      block.warps[w].ready |= barrier.waiting[w];
      barrier.waiting[w] = 0;
    }
    running->leaves_block = LeavesNow(&block);
    ToScheduler(&lane);  // the first warp goes on first
  }
  Acquire(order);
}

void PauseLane() {
  Lane* const lane = running->lane;
  lane->n_polls = 0;
  lane->warp->ready &= ~(1u << lane->turn);
  lane->warp->paused |= 1u << lane->turn;
  GiveTurn(lane);
}

void MeetBlocks(const void* counter) {
  Lane* const lane = running->lane;
  const auto* const at = static_cast<const unsigned char*>(counter);
  const unsigned char* const shared = lane->block->shared;
  if (at >= shared && at < shared + running->grid->shared_bytes) return;  // no other block sees it
  while (LeavesNow(lane->block)) {
    running->leaves_block = true;
    ToScheduler(lane);
  }
}

void CountPoll() {
  Lane& lane = *running->lane;
  if (++lane.n_polls > kMostPolls) Fault("polls a counter without Pause()");
}

void* SharedMemoryOfBlock() { return running->lane->block->shared; }

void CopyLater16(void* shared, const void* global, bool valid) {
  Lane& lane = *running->lane;
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    Fault("cp.async between addresses that are not aligned to 16 bytes");
  }
  if (valid) streamed_bytes += 16;
  lane.copies.push_back({shared, global, valid});
}

void CommitLaterCopies() {
  Lane& lane = *running->lane;
  lane.group_ends.push_back(lane.copies.size());
}

bool TakeLandedCopy(int groups_left, LaterCopy* copy) {
  Lane& lane = *running->lane;
  while (lane.first_group + static_cast<size_t>(groups_left) < lane.group_ends.size()) {
    if (lane.first_copy < lane.group_ends[lane.first_group]) {
      *copy = lane.copies[lane.first_copy++];
      return true;
    }
    ++lane.first_group;
  }
  if (lane.first_copy == lane.copies.size() && lane.first_group == lane.group_ends.size()) {
    lane.copies.clear();
    lane.group_ends.clear();
    lane.first_copy = lane.first_group = 0;
  }
  return false;
}

bool IsOrderDropped() { return counts_all_barriers && IsDropped(__builtin_return_address(0)); }

void DropBarrier(int barrier, bool all) {
  counts_barriers = true;
  counts_all_barriers = all;
  dropped_barrier = barrier;
  n_barriers_seen = 0;
}
int CountBarriers() { return n_barriers_seen; }
void KeepBarriers() { counts_barriers = counts_all_barriers = false; }

void CountStreamedBytes(size_t bytes) { streamed_bytes += bytes; }
uint64_t StreamedBytes() { return streamed_bytes; }

// A fence, and an atomic operation after it, order what was written before for whoever sees the counter and
// fences then.
void FenceHere() {
  Lane& lane = *running->lane;
  lane.fenced = true;
  for (void* counter : lane.seen_counters) Acquire(counter);
  lane.seen_counters.clear();
}
void AtomicHere(void* counter) {
  Lane& lane = *running->lane;
  if (lane.fenced) Release(counter);
  const auto& seen = lane.seen_counters;
  if (std::find(seen.begin(), seen.end(), counter) == seen.end()) lane.seen_counters.push_back(counter);
}

void MisalignedRow() { Fault("ldmatrix of a row that is not aligned to 16 bytes"); }
void NotInAKernel() { Fault("threadIdx or its like read outside of a kernel"); }

}  // namespace coterie::emulation
