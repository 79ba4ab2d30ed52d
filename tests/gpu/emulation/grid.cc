// Compiled without the thread sanitizer: lanes are ordered by what the kernel does, not by this scheduler.
#include "grid.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "control.h"
#include "running.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

namespace coterie::emulation {

namespace {

constexpr size_t kSharedRedZone = 256;
constexpr unsigned char kRedZone = 0xA5;
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
  enum class Advanced { kEnded, kWaits, kLeft };
  // Runs the block's lanes as far as they get, or as one of them wants.
  Advanced Advance(Block& block);
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
  block->n_done = block->n_meetings = 0;
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

Runner::Advanced Runner::Advance(Block& block) {
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
    if (std::exchange(running->leaves_block, false)) return Advanced::kLeft;
  }
  if (block.n_done == static_cast<int>(block.lanes.size())) return Advanced::kEnded;
  for (const Warp& warp : block.warps) any_paused |= warp.paused != 0;
  if (!any_paused) ReportStuck(block);
  return Advanced::kWaits;
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
    // In random order mostly all at once, so that they run into each other.
    do {
      if (resident.size() < max_resident && next < order.size()) resident.push_back(Start(order[next++]));
    } while (running->random && resident.size() < max_resident && next < order.size() &&
             running->Random() % 8 != 0);
    if (running->random) Arrange(&resident);
    const bool full = resident.size() == max_resident || next == order.size();
    bool any_done = false;
    for (auto& block : resident) {
      if (Advance(*block) != Advanced::kEnded) continue;
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
  const size_t most_shared_bytes = std::min(TheSettings().shared_bytes, kMostSharedBytes);
  if (grid.shared_bytes > most_shared_bytes) {
    Fault("a launch with " + std::to_string(grid.shared_bytes) + " bytes of shared memory, of at most " +
          std::to_string(most_shared_bytes));
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

void Fault(const std::string& what) {
  std::fprintf(stderr, "GPU emulation: %s %s\n", WhoRuns().c_str(), what.c_str());
  std::abort();
}

}  // namespace coterie::emulation
