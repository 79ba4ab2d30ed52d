#ifndef COTERIE_TESTS_GPU_NVCC_CONTROL_H_
#define COTERIE_TESTS_GPU_NVCC_CONTROL_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

// What tests of kernels ask of emulation/control.h, on a real device: it has one order of its own, counts
// nothing, and fails when it likes. Tests that need more of it skip themselves by kIsEmulated.
namespace coterie::emulation {

constexpr bool kIsEmulated = false;

enum class Order { kAscending, kDescending, kRandom };

struct Settings {
  Order order = Order::kRandom;
  uint64_t seed = 1;
  int n_processors = 0;
  size_t shared_bytes = 0;  // setting it changes nothing
  bool vendor_library = true;
};
inline Settings& TheSettings() {
  static Settings settings = [] {
    Settings of_device;
    int device = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&of_device.n_processors, cudaDevAttrMultiProcessorCount, device);
    return of_device;
  }();
  return settings;
}

constexpr int kForEver = -1;
inline void FailAllocationAfter(int, int = 1) {}
inline void FailProductAfter(int) {}
inline void ForgetFailures() {}

constexpr int kNoBarrier = -1;
inline void DropBarrier(int, bool = false) {}
inline int CountBarriers() { return 0; }
inline void KeepBarriers() {}

struct Counts {
  uint64_t kernels = 0;
  uint64_t graph_launches = 0;
  uint64_t copies = 0;
  uint64_t streamed_bytes = 0;
  uint64_t synchronisations = 0;
  uint64_t live_allocations = 0;
  uint64_t live_bytes = 0;
  uint64_t library_searches = 0;
  uint64_t library_products = 0;
  uint64_t library_split_sums = 0;
  uint64_t library_objects = 0;
};
inline Counts CountsNow() { return {}; }

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_NVCC_CONTROL_H_
