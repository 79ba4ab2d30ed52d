#include "kernels/cuda/memory.h"

#include "absl/strings/str_cat.h"
#include "common/memory.h"

namespace coterie::cuda {

Status ToStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  cudaGetLastError();
  const std::string text =
      absl::StrCat(std::string(what), ": ", cudaGetErrorName(error), " (", cudaGetErrorString(error), ")");
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(text);
    case cudaErrorInvalidValue:
    case cudaErrorInitializationError:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorStubLibrary:
    case cudaErrorSystemNotReady:
      return absl::FailedPreconditionError(text);
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
      return absl::FailedPreconditionError(absl::StrCat(text, ": update the NVIDIA driver"));
    case cudaErrorDevicesUnavailable:
      return absl::FailedPreconditionError(
          absl::StrCat(text, ": it is busy or in exclusive mode; end what computes on it, or take another"));
    case cudaErrorNoKernelImageForDevice:
      return absl::FailedPreconditionError(
          absl::StrCat(text, ": this build has no code for it (COTERIE_CUDA_ARCHITECTURES)"));
    default:
      return absl::UnavailableError(absl::StrCat("the device was lost: ", text));
  }
}

Status AllocationStatus(cudaError_t error, size_t bytes, std::string_view memory, std::string_view what) {
  const Status status = ToStatus(error, what);
  if (!absl::IsResourceExhausted(status)) return status;
  return absl::ResourceExhaustedError(
      absl::StrCat("no ", MemoryText(bytes), " of ", std::string(memory), " for ", std::string(what)));
}

bool IsPending(cudaEvent_t event) {
  if (cudaEventQuery(event) != cudaErrorNotReady) return false;
  cudaGetLastError();
  return true;
}

Status SetToZero(void* device, size_t bytes, std::string_view what) {
  RETURN_IF_ERROR(ToStatus(cudaMemset(device, 0, bytes), what));
  return ToStatus(cudaStreamSynchronize(nullptr), what);
}

Status CopyToDevice(void* device, const void* host, size_t bytes, std::string_view what) {
  RETURN_IF_ERROR(ToStatus(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice), what));
  return ToStatus(cudaStreamSynchronize(nullptr), what);
}

template <bool kPinned>
StatusOr<Memory<kPinned>> Memory<kPinned>::Allocate(size_t bytes, std::string_view what) {
  Memory memory;
  const cudaError_t error =
      kPinned ? cudaHostAlloc(&memory.data_, bytes, cudaHostAllocDefault) : cudaMalloc(&memory.data_, bytes);
  RETURN_IF_ERROR(AllocationStatus(error, bytes, kPinned ? "pinned host memory" : "device memory", what));
  memory.bytes_ = bytes;
  return memory;
}

template <bool kPinned>
void Memory<kPinned>::Free() {
  if (data_ == nullptr) return;
  if (kPinned) {
    cudaFreeHost(data_);
  } else {
    cudaFree(data_);
  }
}

template class Memory<false>;
template class Memory<true>;

}  // namespace coterie::cuda
