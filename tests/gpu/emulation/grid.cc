// Compiled without the thread sanitizer: lanes are ordered by what the kernel does, not by this scheduler.
#include "grid.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>

#include "control.h"
#include "lane.h"

#ifdef COTERIE_EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
#else
static inline void __tsan_acquire(void*) {}
static inline void __tsan_release(void*) {}
#endif

namespace coterie::emulation {
namespace {

Lane* current = nullptr;  // the running lane; grids run one at a time
const Grid* running = nullptr;

std::string KernelName() {
  Dl_info info;
  if (running != nullptr && dladdr(running->kernel, &info) != 0 && info.dli_sname != nullptr)
    return info.dli_sname;
  return "a kernel";
}

std::string Where(const Lane& lane) {
  const LanePosition& p = lane.position;
  char text[96];
  std::snprintf(text, sizeof(text), " (block %u,%u,%u thread %u)", p.block_idx.x, p.block_idx.y,
                p.block_idx.z, p.thread_idx.x);
  return text;
}

// Gives way until *waited has moved on.
void WaitFor(const uint64_t* waited) {
  Lane* const lane = current;
  lane->waited = waited;
  lane->waited_from = *waited;
  lane->fiber->Yield();
  lane->waited = nullptr;
}

float FloatOfBf16(uint32_t bits) { return std::bit_cast<float>(bits << 16); }

// d [16, 8] = a [16, 16] · b [16, 8] + c over the fragments of PTX's mma.m16n8k16. An output's sum runs over
// k in ascending order: real tensor cores add in an order and a width of their own.
void MultiplyFragments(Warp& warp, std::array<std::array<uint32_t, 4>, kLanes>& out) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < kLanes; ++lane) {
    const auto& in = warp.in[static_cast<size_t>(lane)];
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) {
      const int row = g + 8 * (r % 2), column = 2 * t + 8 * (r / 2);
      a[row][column] = FloatOfBf16(in[r] & 0xFFFF);
      a[row][column + 1] = FloatOfBf16(in[r] >> 16);
      d[g + 8 * (r / 2)][2 * t + r % 2] = std::bit_cast<float>(in[6 + r]);
    }
    for (int r = 0; r < 2; ++r) {
      b[2 * t + 8 * r][g] = FloatOfBf16(in[4 + r] & 0xFFFF);
      b[2 * t + 8 * r + 1][g] = FloatOfBf16(in[4 + r] >> 16);
    }
  }
  for (int m = 0; m < 16; ++m) {
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) d[m][n] += a[m][k] * b[k][n];
    }
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int r = 0; r < 4; ++r) {
      out[static_cast<size_t>(lane)][r] = std::bit_cast<uint32_t>(d[g + 8 * (r / 2)][2 * t + r % 2]);
    }
  }
}

const uint16_t* RowAddress(const std::array<uint32_t, kMaxWords>& in) {
  const uint64_t bits = in[0] | static_cast<uint64_t>(in[1]) << 32;
  if (bits % 16 != 0) Fault("ldmatrix of a row that is not aligned to 16 bytes" + Where(*current));
  return reinterpret_cast<const uint16_t*>(bits);
}

void LoadFragments(Warp& warp, bool transposed, std::array<std::array<uint32_t, 4>, kLanes>& out) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t values[8][8];
    for (int row = 0; row < 8; ++row) {
      const uint16_t* from = RowAddress(warp.in[static_cast<size_t>(matrix * 8 + row)]);
      for (int i = 0; i < 8; ++i) values[row][i] = from[i];
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const int g = lane / 4, t = lane % 4;
      const uint32_t low = transposed ? values[2 * t][g] : values[g][2 * t];
      const uint32_t high = transposed ? values[2 * t + 1][g] : values[g][2 * t + 1];
      out[static_cast<size_t>(lane)][matrix] = low | high << 16;
    }
  }
}

void Compute(Warp& warp, int n_out) {
  auto& out = warp.out[warp.round % 2];
  switch (warp.op) {
    case WarpOp::kBarrier:
      return;
    case WarpOp::kShuffle:
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const auto& from = warp.in[warp.in[lane][0] % kLanes];
        for (size_t i = 0; i < static_cast<size_t>(n_out); ++i) out[lane][i] = from[1 + i];
      }
      return;
    case WarpOp::kBallot: {
      uint32_t votes = 0;
      for (size_t lane = 0; lane < kLanes; ++lane) votes |= warp.in[lane][0] << lane;
      for (auto& words : out) words[0] = votes;
      return;
    }
    case WarpOp::kMmaBf16:
      return MultiplyFragments(warp, out);
    case WarpOp::kLoadMatrices:
      return LoadFragments(warp, false, out);
    case WarpOp::kLoadMatricesTransposed:
      return LoadFragments(warp, true, out);
  }
}

class Runner {
 public:
  explicit Runner(const Grid& grid) : grid_(grid), random_(TheSettings().seed) {}
  ~Runner() { FreeArenas(); }
  void Run();

 private:
  std::unique_ptr<Block> Start(unsigned index, int turn);
  // Runs the block's lanes as far as they get; whether one got anywhere.
  bool Advance(Block& block);
  void Finish(Block& block);
  void FreeArenas();
  [[noreturn]] void ReportStuck(const Block& block);
  template <class T>
  void Arrange(std::vector<T>* order) {
    if (TheSettings().order == Order::kDescending) std::reverse(order->begin(), order->end());
    if (TheSettings().order == Order::kRandom) std::shuffle(order->begin(), order->end(), random_);
  }

  const Grid& grid_;
  std::mt19937_64 random_;
  std::vector<unsigned char*> arenas_;  // of finished blocks
};

std::vector<Fiber*>& IdleFibers() {
  static auto& fibers = *new std::vector<Fiber*>;
  return fibers;
}

Fiber* TakeFiber() {
  std::vector<Fiber*>& idle = IdleFibers();
  if (idle.empty()) return new Fiber;
  Fiber* const fiber = idle.back();
  idle.pop_back();
  return fiber;
}

constexpr size_t kSharedRedZone = 256;
constexpr unsigned char kRedZone = 0xA5;

std::unique_ptr<Block> Runner::Start(unsigned index, int turn) {
  auto block = std::make_unique<Block>();
  const unsigned n = grid_.block.x;
  // Unset shared memory is NaN, whatever is read from it.
  const size_t bytes = grid_.shared_bytes + kSharedRedZone;
  block->shared = static_cast<unsigned char*>(std::aligned_alloc(128, (bytes + 127) / 128 * 128));
  std::memset(block->shared, 0xFF, grid_.shared_bytes);
  std::memset(block->shared + grid_.shared_bytes, kRedZone, kSharedRedZone);
  block->warps.resize(n / kLanes);
  block->lanes.resize(n);
  const uint3 block_idx = {index % grid_.grid.x, index / grid_.grid.x % grid_.grid.y,
                           index / grid_.grid.x / grid_.grid.y};
  // Lane i of one block and lane i of the next run on different fibers, or the sanitizer would take them for
  // one thread.
  std::vector<Fiber*> fibers(n);
  for (Fiber*& fiber : fibers) fiber = TakeFiber();
  std::rotate(fibers.begin(), fibers.begin() + static_cast<unsigned>(turn) * 7 % n, fibers.end());
  for (unsigned i = 0; i < n; ++i) {
    Lane& lane = block->lanes[i];
    lane.position = {{i, 0, 0}, block_idx, grid_.block, grid_.grid};
    lane.block = block.get();
    lane.warp = &block->warps[i / kLanes];
    lane.lane = static_cast<int>(i % kLanes);
    lane.fiber = fibers[i];
    lane.fiber->Assign(&grid_.lane);
  }
  __tsan_release(&block->start);
  return block;
}

bool Runner::Advance(Block& block) {
  std::vector<Lane*> order(block.lanes.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = &block.lanes[i];
  Arrange(&order);
  for (Lane* lane : order) lane->paused = false;
  bool advanced = false;
  for (bool any = true; any;) {
    any = false;
    for (Lane* lane : order) {
      if (lane->done || lane->paused || (lane->waited != nullptr && *lane->waited == lane->waited_from))
        continue;
      current = lane;
      lane->fiber->Resume();
      current = nullptr;
      any = advanced = true;
      if (lane->fiber->done()) {
        lane->done = true;
        ++block.n_done;
        IdleFibers().push_back(lane->fiber);
      }
    }
  }
  return advanced;
}

void Runner::Finish(Block& block) {
  for (size_t i = 0; i < kSharedRedZone; ++i) {
    if (block.shared[grid_.shared_bytes + i] != kRedZone) {
      Fault("written behind the " + std::to_string(grid_.shared_bytes) + " bytes of shared memory");
    }
  }
  // Freed at the end: the sanitizer would want to see the lanes ordered before a free here, and with them the
  // blocks.
  arenas_.push_back(block.shared);
#ifndef COTERIE_EMULATION_TSAN
  FreeArenas();
#endif
}

void Runner::FreeArenas() {
  for (unsigned char* arena : arenas_) std::free(arena);
  arenas_.clear();
}

void Runner::ReportStuck(const Block& block) {
  const auto waiting =
      std::find_if(block.lanes.begin(), block.lanes.end(), [](const Lane& l) { return !l.done; });
  Fault("waits for ever at a barrier or a function of the warp that other lanes never reach; " +
        std::to_string(block.n_done) + " of " + std::to_string(block.lanes.size()) + " lanes have ended" +
        Where(*waiting));
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
    if (resident.size() < max_resident && next < order.size()) {
      resident.push_back(Start(order[next], static_cast<int>(next)));
      ++next;
    }
    const bool full = resident.size() == max_resident || next == order.size();
    bool any_done = false;
    for (auto& block : resident) {
      if (!Advance(*block)) ReportStuck(*block);
      if (block->n_done == static_cast<int>(block->lanes.size())) {
        Finish(*block);
        block.reset();
        any_done = true;
      } else if (std::none_of(block->lanes.begin(), block->lanes.end(),
                              [](const Lane& l) { return l.paused; })) {
        ReportStuck(*block);
      }
    }
    std::erase(resident, nullptr);
    n_idle_rounds = any_done || !full ? 0 : n_idle_rounds + 1;
    if (n_idle_rounds > 10000) {
      Fault("blocks wait for each other for ever, or for one beyond the " + std::to_string(max_resident) +
            " that are resident");
    }
  }
}

char grid_start = 0, grid_finish = 0;

}  // namespace

const LanePosition& ThisLane() {
  if (current == nullptr) Fault("threadIdx or its like read outside of a kernel");
  return current->position;
}

void WarpTogether(WarpOp op, const uint32_t* in, int n_in, uint32_t* out, int n_out) {
  Lane& lane = *current;
  Warp& warp = *lane.warp;
  if (warp.n_arrived == 0) {
    warp.op = op;
  } else if (warp.op != op) {
    Fault("lanes of one warp call different functions of the warp" + Where(lane));
  }
  for (int i = 0; i < n_in; ++i) warp.in[static_cast<size_t>(lane.lane)][static_cast<size_t>(i)] = in[i];
  const uint64_t round = warp.round;
  char* const order = &warp.order[round % 2];
  if (op == WarpOp::kBarrier) __tsan_release(order);
  if (++warp.n_arrived < kLanes) {
    WaitFor(&warp.round);
  } else {
    Compute(warp, n_out);
    warp.n_arrived = 0;
    ++warp.round;
  }
  if (op == WarpOp::kBarrier) __tsan_acquire(order);
  for (int i = 0; i < n_out; ++i)
    out[i] = warp.out[round % 2][static_cast<size_t>(lane.lane)][static_cast<size_t>(i)];
}

void BarrierOfBlock(int id, int n_threads) {
  Block& block = *current->block;
  Barrier& barrier = block.barriers.at(static_cast<size_t>(id));
  const int expected = n_threads > 0 ? n_threads : static_cast<int>(block.lanes.size());
  char* const order = &barrier.order[barrier.generation % 2];
  __tsan_release(order);
  if (++barrier.n_arrived < expected) {
    WaitFor(&barrier.generation);
  } else {
    barrier.n_arrived = 0;
    ++barrier.generation;
  }
  __tsan_acquire(order);
}

void PauseLane() {
  current->paused = true;
  current->fiber->Yield();
}

void* SharedMemoryOfBlock() { return current->block->shared; }

void CopyLater16(void* shared, const void* global, bool valid) {
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    Fault("cp.async between addresses that are not aligned to 16 bytes" + Where(*current));
  }
  if (valid) CountStreamedBytes(16);
  current->copies.push_back({shared, global, valid});
  ++current->copy_groups.back();
}

void CommitLaterCopies() { current->copy_groups.push_back(0); }

bool TakeLandedCopy(int groups_left, LaterCopy* copy) {
  Lane& lane = *current;
  // The open group at the back does not count.
  while (static_cast<int>(lane.copy_groups.size()) - 1 > groups_left) {
    if (lane.copy_groups.front() == 0) {
      lane.copy_groups.pop_front();
      continue;
    }
    --lane.copy_groups.front();
    *copy = lane.copies.front();
    lane.copies.pop_front();
    return true;
  }
  return false;
}

void RunGrid(const Grid& grid) {
  running = &grid;
  const size_t n_threads = static_cast<size_t>(grid.block.x) * grid.block.y * grid.block.z;
  if (grid.block.y != 1 || grid.block.z != 1 || n_threads % kLanes != 0 || n_threads == 0 ||
      n_threads > 1024) {
    Fault("blocks of " + std::to_string(n_threads) + " threads: whole warps along x, at most 1,024 threads");
  }
  if (grid.grid.x == 0 || grid.grid.y == 0 || grid.grid.z == 0 || grid.grid.y > 65535 ||
      grid.grid.z > 65535) {
    Fault("a grid without blocks, or with more than 65,535 along y or z");
  }
  Grid ordered = grid;
  // What the host did before the launch is seen by all lanes, and what they did by the host.
  __tsan_release(&grid_start);
  ordered.lane = [&grid] {
    __tsan_acquire(&grid_start);
    __tsan_acquire(&current->block->start);
    grid.lane();
    __tsan_release(&grid_finish);
  };
  {
    Runner runner(ordered);
    runner.Run();
    __tsan_acquire(&grid_finish);
  }
  running = nullptr;
}

void Fault(const std::string& what) {
  std::fprintf(stderr, "GPU emulation: %s %s\n",
               running != nullptr ? KernelName().c_str() : "the caller:", what.c_str());
  std::abort();
}

}  // namespace coterie::emulation
