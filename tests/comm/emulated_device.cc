// The device under the stand-in for NCCL is the emulated GPU: collectives are late as everything there is.
#include "tests/comm/emulated_device.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "control.h"
#include "tests/comm/nccl_standin.h"
#include "tests/comm/standin_device.h"

namespace coterie::comm_testing {
namespace {

cudaStream_t CudaStream(nccl::Stream stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t CudaEvent(nccl::Event event) { return static_cast<cudaEvent_t>(event); }

void CheckCuda(cudaError_t error) { COTERIE_CHECK_EQ(int{error}, int{cudaSuccess}); }

class EmulatedBuffer : public Buffer {
 public:
  explicit EmulatedBuffer(size_t n_bytes) { CheckCuda(cudaMalloc(&data_, n_bytes + 1)); }
  ~EmulatedBuffer() override { cudaFree(data_); }
  std::byte* data() override { return static_cast<std::byte*>(data_); }
  void Write(size_t at, const void* from, size_t n_bytes) override {
    CheckCuda(cudaMemcpy(data() + at, from, n_bytes, cudaMemcpyHostToDevice));
    CheckCuda(cudaStreamSynchronize(nullptr));  // not the other members' streams, which may wait for this one
  }
  void Read(size_t at, void* to, size_t n_bytes) override {
    CheckCuda(cudaMemcpy(to, data() + at, n_bytes, cudaMemcpyDeviceToHost));
  }

 private:
  void* data_ = nullptr;
};

}  // namespace

DriverCalls EmulatedDriver() {
  return {
      .event_create = [](nccl::Event* event, unsigned flags) -> int {
        cudaEvent_t made = nullptr;
        const int error = cudaEventCreateWithFlags(&made, flags);
        *event = made;
        return error;
      },
      .event_record = [](nccl::Event event, nccl::Stream stream) -> int {
        return cudaEventRecord(CudaEvent(event), CudaStream(stream));
      },
      .event_query = [](nccl::Event event) -> int { return cudaEventQuery(CudaEvent(event)); },
      .event_destroy = [](nccl::Event event) -> int { return cudaEventDestroy(CudaEvent(event)); },
      .copy_to_host = [](void* host, const void* device, size_t n_bytes, nccl::Stream stream) -> int {
        return cudaMemcpyAsync(host, device, n_bytes, cudaMemcpyDeviceToHost, CudaStream(stream));
      },
      .copy_to_device = [](void* device, const void* host, size_t n_bytes, nccl::Stream stream) -> int {
        return cudaMemcpyAsync(device, host, n_bytes, cudaMemcpyHostToDevice, CudaStream(stream));
      },
      .allocate_host = [](void** host, size_t n_bytes) -> int { return cudaHostAlloc(host, n_bytes, 0); },
      .free_host = [](void* host) -> int { return cudaFreeHost(host); },
  };
}

DriverCalls StandInDevice::Driver() { return EmulatedDriver(); }

bool StandInDevice::CheckStream(nccl::Stream stream) {
  if (emulation::IsStream(CudaStream(stream))) return true;
  Report("a stream that is not there was used");
  return false;
}

void StandInDevice::Push(nccl::Stream stream, std::function<void()> kernel) {
  emulation::EnqueueForeign(CudaStream(stream), std::move(kernel));
}

bool StandInDevice::CheckMemory(const void* data, size_t n_bytes, const std::string& what) {
  if (n_bytes == 0 || emulation::IsDeviceMemory(data, n_bytes)) return true;
  Report(absl::StrCat(what, ": ", n_bytes, " bytes are not memory of the device"));
  return false;
}

std::shared_ptr<Buffer> AllocateOnStandIn(size_t n_bytes) {
  return std::make_shared<EmulatedBuffer>(n_bytes);
}

nccl::Stream CreateStream() {
  cudaStream_t stream = nullptr;
  CheckCuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

void LetStreamsRun() {
  cudaStreamQuery(nullptr);
  std::this_thread::yield();
}

void DestroyStream(nccl::Stream stream) { cudaStreamDestroy(CudaStream(stream)); }

}  // namespace coterie::comm_testing
