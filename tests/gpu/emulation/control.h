#ifndef COTERIE_TESTS_GPU_EMULATION_CONTROL_H_
#define COTERIE_TESTS_GPU_EMULATION_CONTROL_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace coterie::emulation {

constexpr bool kIsEmulated = true;  // tests run on real devices, too: tests/gpu/nvcc/control.h

// In which order lanes and blocks get their turn. A kernel with all its barriers gives the same bits in each.
// In random order resident blocks take turns, too, wherever one may see what another did: at barriers, fences
// and counters. In the others each runs as far as it gets.
enum class Order { kAscending, kDescending, kRandom };

// What a test may set. The defaults come from COTERIE_EMULATION_ORDER (ascending, descending, random),
// COTERIE_EMULATION_SEED, COTERIE_EMULATION_DEVICES, COTERIE_EMULATION_BYTES, COTERIE_EMULATION_SHARED_BYTES
// and COTERIE_EMULATION_PROTECT, so that a whole worker can be run in any order.
struct Settings {
  Order order = Order::kAscending;
  uint64_t seed = 1;
  int n_devices = 1;
  size_t device_bytes = size_t{4} << 30;    // of each device
  int n_processors = 4;                     // multiprocessors: what persistent grids are sized by
  size_t shared_bytes = size_t{227} << 10;  // most of a block: sm_90's; 99 KB are sm_86's, 163 sm_80's
  int compute_major = 9, compute_minor = 0;
  int driver_version = 13000;
  bool vendor_library = true;  // libcublasLt.so.13 is there; COTERIE_EMULATION_WITHOUT_CUBLASLT: it is not
  int refusal = 0;  // the error by which a device refuses whoever wants to compute on it: it is busy, say
  // The host that touches device memory faults, as it does on a machine with a GPU. Costs a system call per
  // allocation and piece of work. Set it before the first allocation.
  bool protect = false;
};
Settings& TheSettings();

// --- Failures to come. Counted from the call on; 0: now; negative: never. ---
// Of all that takes memory: allocations of device and pinned memory, and streams, events, captures, graphs
// and their launches.
void FailAllocationAfter(int n_allocations, int n_times = 1);
constexpr int kForEver = -1;  // n_times
struct FailedAllocation {
  std::string call;  // "cudaMalloc"; "": none has failed since FailAllocationAfter
  size_t bytes = 0;  // of memory
};
FailedAllocation LastFailedAllocation();
// Launches of kernels: one within a capture spoils that.
void FailLaunchAfter(int n_launches);
// Every call fails from then on, as when a device fell off the bus. With COTERIE_EMULATION_LOST=<folder>,
// also as soon as that folder holds a file "cuda:<device>".
void LoseDeviceAfter(int n_operations);
void FailProductAfter(int n_products);  // of cuBLASLt: its call fails, once
bool DeviceIsLost();
void ForgetFailures();

// --- Barriers that kernels lack ---
// All lanes pass by one barrier: that which stands where the `barrier`-th one stood that any lane came to
// after the call. kNoBarrier: they are counted, and all are kept. `all`: barriers of warps, too, and
// releases, acquires and fences. Only the thread sanitizer misses those, for lanes of a warp meet at its
// products and shuffles here, and memory is there for all as soon as it was written.
constexpr int kNoBarrier = -1;
void DropBarrier(int barrier, bool all = false);
int CountBarriers();  // places, since DropBarrier
void KeepBarriers();  // ends that

// --- What was done so far, by this process ---
struct Counts {
  uint64_t kernels = 0;  // grids run, those of graphs too
  uint64_t graph_launches = 0;
  uint64_t copies = 0;            // asynchronous copies and fills
  uint64_t streamed_bytes = 0;    // through LoadStream and CopyAsync16
  uint64_t synchronisations = 0;  // asked for
  uint64_t waiting_frees = 0;     // cudaFree and cudaFreeHost wait for all that is under way
  uint64_t allocations = 0;       // asked for: what FailAllocationAfter counts
  uint64_t launches = 0;          // of kernels, those into captures too: what FailLaunchAfter counts
  uint64_t live_objects = 0;      // streams, events, graphs
  uint64_t live_allocations = 0;
  uint64_t live_bytes = 0;          // device memory
  uint64_t library_searches = 0;    // for algorithms of cuBLASLt
  uint64_t library_products = 0;    // that it was given
  uint64_t library_split_sums = 0;  // of those products
  uint64_t library_objects = 0;     // of its, alive
};
Counts CountsNow();

// --- For the stand-in of another library that works on streams (NCCL's) ---
// Runs `work`, which may wait for others', on a thread of its own when the stream has come to it; the stream
// goes on when it has returned. Frees don't wait for it.
void EnqueueForeign(cudaStream_t stream, std::function<void()> work);
bool IsDeviceMemory(const void* pointer, size_t n_bytes);  // all of it, and not freed
bool IsStream(cudaStream_t stream);                        // one that was made and not destroyed

// Ends the process with a word on what a kernel or a caller did wrong, and where.
[[noreturn]] void Fault(const std::string& what);

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_CONTROL_H_
