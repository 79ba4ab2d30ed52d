#ifndef COTERIE_KERNELS_CUDA_LAUNCH_H_
#define COTERIE_KERNELS_CUDA_LAUNCH_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <type_traits>

#include "kernels/cuda/shared_memory.h"

namespace coterie::cuda {

constexpr size_t kDefaultSharedBytes = 48 * 1024;  // more must be asked for, kernel by kernel
constexpr size_t kMostArgumentBytes = 4096;

// Enqueues `kernel` on `stream`: the one way in which kernels are started. Its error, if any, is the stream's
// next cudaGetLastError. Arguments are copied in the call.
template <class... Params>
void Launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::type_identity_t<Params>... args) {
  static_assert((sizeof(Params) + ... + 0) <= kMostArgumentBytes);
#ifdef __CUDACC__
  if (shared_bytes >
      kDefaultSharedBytes) {  // the same for each launch: those of a captured graph keep theirs
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(SharedMemoryLimit()));
  }
  void* pointers[sizeof...(Params) + 1] = {const_cast<void*>(static_cast<const void*>(&args))..., nullptr};
  cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes, stream);
#else
  [[maybe_unused]] const auto check = [](const auto& arg) {
    if constexpr (std::is_pointer_v<std::remove_cvref_t<decltype(arg)> >) emulation::CheckArgument(arg);
  };
  (check(args), ...);
  emulation::EnqueueKernel(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream,
                           [kernel, args...] { kernel(args...); });
#endif
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_LAUNCH_H_
