#ifndef COTERIE_KERNELS_CUDA_SHARED_MEMORY_H_
#define COTERIE_KERNELS_CUDA_SHARED_MEMORY_H_

#include <cuda_runtime.h>

#include <cstddef>

namespace coterie::cuda {

// What every device of compute capability 8.0 or more gives a block that asks for it: 8.6, 8.9 and 12.0 give
// no more, 8.0 163 KB, 9.0 and 10.0 227. Every kernel has a form that takes no more than this.
constexpr size_t kLeastSharedBytes = 99 * 1024;

// Of a block of the current device; a process has one (worker/device).
inline size_t SharedMemoryLimit() {
  const auto ask = [] {
    int device = 0, bytes = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return static_cast<size_t>(bytes);
  };
#ifdef COTERIE_EMULATED_GPU
  return ask();  // tests change it
#else
  static const size_t limit = ask();
  return limit;
#endif
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_SHARED_MEMORY_H_
