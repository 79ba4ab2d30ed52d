#ifndef COTERIE_KERNELS_CUDA_MEMORY_H_
#define COTERIE_KERNELS_CUDA_MEMORY_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <string_view>
#include <utility>

#include "common/status.h"

namespace coterie::cuda {

// Names `what`. ResourceExhausted: no memory; FailedPrecondition: the device cannot be used, or not by this
// program; Unavailable: the device was lost. The error is said by that: whoever asks CUDA for the last error,
// of a launch, does not find it again.
Status ToStatus(cudaError_t error, std::string_view what);

// What became of taking so many bytes of `memory` ("device memory") for `what`: where there were none,
// ResourceExhausted that says so.
Status AllocationStatus(cudaError_t error, size_t bytes, std::string_view memory, std::string_view what);

// Whether the event's stream has not come to it yet. CUDA remembers that answer as an error, which whoever
// looks for the error of a launch would find next: it is taken back.
bool IsPending(cudaEvent_t event);

// Sets device memory to zero, and copies the host's to it: there for every stream when they return.
// (cudaMemset and cudaMemcpy return earlier, and streams of ours do not wait for them.)
Status SetToZero(void* device, size_t bytes, std::string_view what);
Status CopyToDevice(void* device, const void* host, size_t bytes, std::string_view what);

// Memory of a device, or (pinned) of the host where the device reads it by itself. Freed with the last owner.
template <bool kPinned>
class Memory {
 public:
  Memory() = default;
  ~Memory() { Free(); }
  Memory(Memory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

  // ResourceExhausted naming `what` and the bytes that were not there.
  static StatusOr<Memory> Allocate(size_t bytes, std::string_view what);

  size_t bytes() const { return bytes_; }
  void* data() const { return data_; }
  template <class T>
  T* As() const {
    return static_cast<T*>(data_);
  }

 private:
  void Free();
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

using DeviceMemory = Memory<false>;
using PinnedMemory = Memory<true>;

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_MEMORY_H_
