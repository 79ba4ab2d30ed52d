// Compiled without the thread sanitizer: lanes are ordered by what the kernel does, not by this scheduler.
#include "grid.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>

#include "control.h"
#include "lane.h"
#include "warp_op.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

namespace coterie::emulation {

const LanePosition* this_lane = nullptr;

namespace {

constexpr size_t kSharedRedZone = 256;
constexpr unsigned char kRedZone = 0xA5;
constexpr uint32_t kAllReady = 0xFFFFFFFFu;
constexpr int kMostPolls = 1 << 22;

// What runs: one grid at a time, on one host thread.
struct Running {
  const Grid* grid = nullptr;
  Lane* lane = nullptr;
  Context scheduler;
  bool random = false;
  uint64_t state = 1;  // of the random numbers
  char start = 0,
       finish = 0;  // what orders the grid after what its stream did before, and before what it does next

  uint64_t Random() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
  }
};
Running* running = nullptr;
uint64_t streamed_bytes = 0;

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

void SetTurns(Warp* warp) {
  for (int turn = 0; turn < kLanes; ++turn) warp->turns[static_cast<size_t>(turn)]->turn = turn;
}

void Shuffle(Warp* warp) {
  for (size_t i = kLanes - 1; i > 0; --i) std::swap(warp->turns[i], warp->turns[running->Random() % (i + 1)]);
  SetTurns(warp);
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

#ifndef COTERIE_EMULATION_TSAN
// Blocks to use again. Not under the thread sanitizer, which knows memory, and what orders it, by its
// address.
std::vector<std::unique_ptr<Block>>& IdleBlocks() {
  static auto& blocks = *new std::vector<std::unique_ptr<Block>>;
  return blocks;
}
#endif

class Runner {
 public:
  Runner(const Grid& grid, FiberPool* fibers) : grid_(grid), fibers_(*fibers) {}
  ~Runner();
  void Run();

 private:
  std::unique_ptr<Block> Start(unsigned index);
  // Runs the block's lanes as far as they get; whether all have ended.
  bool Advance(Block& block);
  void Finish(std::unique_ptr<Block> block);
  [[noreturn]] void ReportStuck(const Block& block);
  template <class T>
  void Arrange(std::vector<T>* order) {
    if (TheSettings().order == Order::kDescending) std::reverse(order->begin(), order->end());
    if (TheSettings().order != Order::kRandom) return;
    for (size_t i = order->size(); i-- > 1;) std::swap((*order)[i], (*order)[running->Random() % (i + 1)]);
  }

  const Grid& grid_;
  FiberPool& fibers_;
  std::vector<std::unique_ptr<Block>> finished_;
};

unsigned char* AllocateShared(size_t bytes) {
  return static_cast<unsigned char*>(std::aligned_alloc(128, (bytes + kSharedRedZone + 127) / 128 * 128));
}

std::unique_ptr<Block> Runner::Start(unsigned index) {
  std::unique_ptr<Block> block;
#ifdef COTERIE_EMULATION_TSAN
  block = std::make_unique<Block>();
  block->shared = AllocateShared(grid_.shared_bytes);
#else
  if (IdleBlocks().empty()) {
    block = std::make_unique<Block>();
    block->shared = AllocateShared(kMostSharedBytes);
  } else {
    block = std::move(IdleBlocks().back());
    IdleBlocks().pop_back();
  }
#endif
  const size_t n = grid_.block.x;
  // Unset shared memory is NaN, whatever is read from it.
  std::memset(block->shared, 0xFF, grid_.shared_bytes);
  std::memset(block->shared + grid_.shared_bytes, kRedZone, kSharedRedZone);
  ASAN_POISON_MEMORY_REGION(block->shared + grid_.shared_bytes, kSharedRedZone);
  block->n_done = 0;
  block->barriers = {};
  for (size_t i = n; i < block->lanes.size(); ++i) fibers_.Return(block->lanes[i].fiber);
  block->warps.resize(n / kLanes);
  block->lanes.resize(n);
  const uint3 block_idx = {index % grid_.grid.x, index / grid_.grid.x % grid_.grid.y,
                           index / grid_.grid.x / grid_.grid.y};
  block->order.clear();
  for (size_t w = 0; w < block->warps.size(); ++w) {
    Warp& warp = block->warps[w];
    block->order.push_back(&warp);
    warp.n_arrived = 0;
    warp.ready = kAllReady;
    warp.paused = 0;
    for (size_t l = 0; l < kLanes; ++l) {
      Lane& lane = block->lanes[w * kLanes + l];
      lane.position = {{static_cast<unsigned>(w * kLanes + l), 0, 0}, block_idx, grid_.block, grid_.grid};
      lane.block = block.get();
      lane.warp = &warp;
      lane.lane = static_cast<int>(l);
      lane.n_polls = 0;
      lane.copies.clear();
      lane.group_ends.clear();
      lane.first_copy = lane.first_group = 0;
      lane.fenced = false;
      lane.seen_counters.clear();
      if (lane.fiber == nullptr) lane.fiber = fibers_.Take();
      lane.fiber->Assign(RunLane, &lane);
      warp.turns[TheSettings().order == Order::kDescending ? kLanes - 1 - l : l] = &lane;
    }
    SetTurns(&warp);
    if (running->random) Shuffle(&warp);
  }
  Arrange(&block->order);
  Release(&block->start);
  return block;
}

bool Runner::Advance(Block& block) {
  bool any_paused = false;
  for (Warp& warp : block.warps) {
    warp.ready |= warp.paused;
    warp.paused = 0;
  }
  for (;;) {
    if (running->random && running->Random() % 4 == 0) Arrange(&block.order);
    const auto next = std::find_if(block.order.begin(), block.order.end(),
                                   [](const Warp* warp) { return warp->ready != 0; });
    if (next == block.order.end()) break;
    Enter(&running->scheduler, (*next)->turns[static_cast<size_t>(__builtin_ctz((*next)->ready))]);
  }
  if (block.n_done == static_cast<int>(block.lanes.size())) return true;
  for (const Warp& warp : block.warps) any_paused |= warp.paused != 0;
  if (!any_paused) ReportStuck(block);
  return false;
}

void Runner::Finish(std::unique_ptr<Block> block) {
  ASAN_UNPOISON_MEMORY_REGION(block->shared + grid_.shared_bytes, kSharedRedZone);
  for (size_t i = 0; i < kSharedRedZone; ++i) {
    if (block->shared[grid_.shared_bytes + i] != kRedZone) {
      Fault("written behind the " + std::to_string(grid_.shared_bytes) + " bytes of shared memory");
    }
  }
#ifdef COTERIE_EMULATION_TSAN
  for (Lane& lane : block->lanes) fibers_.Return(lane.fiber);
  // Freed at the end: the sanitizer would want to see the lanes ordered before a free here, and with them the
  // blocks.
  finished_.push_back(std::move(block));
#else
  IdleBlocks().push_back(std::move(block));
#endif
}

Runner::~Runner() {
  for (auto& block : finished_) std::free(block->shared);
}

void Runner::ReportStuck(const Block& block) {
  const auto waiting = std::find_if(block.lanes.begin(), block.lanes.end(), [&](const Lane& lane) {
    for (const Barrier& barrier : block.barriers) {
      if ((barrier.waiting[static_cast<size_t>(lane.warp - block.warps.data())] >> lane.turn & 1) != 0)
        return true;
    }
    return lane.warp->n_arrived > 0;
  });
  Fault("waits for ever at a barrier or a function of the warp that other lanes never reach; " +
        std::to_string(block.n_done) + " of " + std::to_string(block.lanes.size()) + " lanes have ended" +
        (waiting == block.lanes.end() ? "" : Where(*waiting)));
}

void Runner::Run() {
  const unsigned n_blocks = grid_.grid.x * grid_.grid.y * grid_.grid.z;
  std::vector<unsigned> order(n_blocks);
  std::iota(order.begin(), order.end(), 0u);
  Arrange(&order);
  // As many at a time as there are multiprocessors: who waits for a block that may never become resident
  // hangs here, too.
  const auto max_resident = static_cast<size_t>(TheSettings().n_processors);
  std::vector<std::unique_ptr<Block>> resident;
  size_t next = 0;
  int n_idle_rounds = 0;
  while (next < order.size() || !resident.empty()) {
    if (resident.size() < max_resident && next < order.size()) resident.push_back(Start(order[next++]));
    const bool full = resident.size() == max_resident || next == order.size();
    bool any_done = false;
    for (auto& block : resident) {
      if (!Advance(*block)) continue;
      Finish(std::move(block));
      any_done = true;
    }
    std::erase(resident, nullptr);
    n_idle_rounds = any_done || !full ? 0 : n_idle_rounds + 1;
    if (n_idle_rounds > 10000) {
      Fault("blocks wait for each other for ever, or for one beyond the " + std::to_string(max_resident) +
            " that are resident");
    }
  }
}

}  // namespace

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

void BarrierOfBlock(int id, int n_threads) {
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

void CheckShape(const Grid& grid) {
  const size_t n_threads = static_cast<size_t>(grid.block.x) * grid.block.y * grid.block.z;
  if (grid.block.y != 1 || grid.block.z != 1 || n_threads % kLanes != 0 || n_threads == 0 ||
      n_threads > size_t{kMaxWarps} * kLanes) {
    Fault("a launch of blocks of " + std::to_string(n_threads) +
          " threads: whole warps along x, at most 1,024 threads");
  }
  if (grid.grid.x == 0 || grid.grid.y == 0 || grid.grid.z == 0 || grid.grid.x > 0x7FFFFFFFu ||
      grid.grid.y > 65535 || grid.grid.z > 65535) {
    Fault("a launch of a grid without blocks, or with more than 65,535 along y or z");
  }
  if (grid.shared_bytes > kMostSharedBytes) {
    Fault("a launch with " + std::to_string(grid.shared_bytes) + " bytes of shared memory, of at most " +
          std::to_string(kMostSharedBytes));
  }
}

void RunGrid(const Grid& grid, FiberPool* fibers) {
  // Made anew for each grid: the sanitizer knows by its address what is ordered by it.
  const auto now = std::make_unique<Running>();
  now->grid = &grid;
  now->scheduler = ThisContext();
  now->random = TheSettings().order == Order::kRandom;
  now->state = (TheSettings().seed + 1) * 0x9E3779B97F4A7C15u;
  running = now.get();
  Release(&now->start);
  {
    Runner runner(grid, fibers);
    runner.Run();
    Acquire(&now->finish);
  }
  running = nullptr;
}

std::string WhoRuns() {
  if (running == nullptr) return "the caller:";
  Dl_info info;
  std::string name = "a kernel";
  if (dladdr(running->grid->kernel, &info) != 0 && info.dli_sname != nullptr) name = info.dli_sname;
  return running->lane == nullptr ? name : name + Where(*running->lane) + ":";
}

void MisalignedRow() { Fault("ldmatrix of a row that is not aligned to 16 bytes"); }
void NotInAKernel() { Fault("threadIdx or its like read outside of a kernel"); }

void Fault(const std::string& what) {
  std::fprintf(stderr, "GPU emulation: %s %s\n", WhoRuns().c_str(), what.c_str());
  std::abort();
}

}  // namespace coterie::emulation
