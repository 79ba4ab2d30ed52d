// One of several processes that meet over the real NCCL on one GPU, for tests/gpu/check:
//   nccl_member <folder> <rank> <members> <timeout in ms>
// Ends with 0 where all calls came out right, and with 3 where this machine has no NCCL.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "common/check.h"
#include "kernels/comm/nccl.h"
#include "kernels/cuda/memory.h"
#include "tests/comm/file_rendezvous.h"
#include "tests/comm/script.h"

namespace coterie {
namespace {

class DeviceBuffer : public comm_testing::Buffer {
 public:
  explicit DeviceBuffer(size_t n_bytes) {
    StatusOr<cuda::DeviceMemory> memory = cuda::DeviceMemory::Allocate(n_bytes + 1, "a buffer");
    COTERIE_CHECK(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
  }
  std::byte* data() override { return memory_.As<std::byte>(); }
  void Write(size_t at, const void* from, size_t n_bytes) override {
    Copy(data() + at, from, n_bytes, cudaMemcpyHostToDevice);
  }
  void Read(size_t at, void* to, size_t n_bytes) override {
    Copy(to, data() + at, n_bytes, cudaMemcpyDeviceToHost);
  }

 private:
  static void Copy(void* to, const void* from, size_t n_bytes, cudaMemcpyKind kind) {
    COTERIE_CHECK_EQ(int{cudaMemcpy(to, from, n_bytes, kind)}, int{cudaSuccess});
    COTERIE_CHECK_EQ(int{cudaDeviceSynchronize()}, int{cudaSuccess});
  }
  cuda::DeviceMemory memory_;
};

// 64 MB on the device, summed with the others': whole numbers, so that nothing is rounded.
Status SumOnDevice(Communicator* member, const CallOptions& call) {
  constexpr size_t kCount = size_t{16} << 20;
  ASSIGN_OR_RETURN(const cuda::DeviceMemory memory,
                   cuda::DeviceMemory::Allocate(kCount * sizeof(float), "values"));
  std::vector<float> values(kCount);
  for (size_t i = 0; i < kCount; ++i)
    values[i] = static_cast<float>(i % 1000 + static_cast<size_t>(member->rank()));
  const auto copy = [&](void* to, const void* from, cudaMemcpyKind kind) {
    RETURN_IF_ERROR(cuda::ToStatus(cudaMemcpy(to, from, kCount * sizeof(float), kind), "copying values"));
    return cuda::ToStatus(cudaDeviceSynchronize(), "copying values");
  };
  RETURN_IF_ERROR(copy(memory.data(), values.data(), cudaMemcpyHostToDevice));
  RETURN_IF_ERROR(
      member->AllReduce(memory.data(), memory.data(), kCount, ElementType::kFloat32, ReduceOp::kSum, call));
  RETURN_IF_ERROR(copy(values.data(), memory.data(), cudaMemcpyDeviceToHost));
  const int members = member->size();
  for (size_t i = 0; i < kCount; ++i) {
    const auto want = static_cast<float>(static_cast<size_t>(members) * (i % 1000)) +
                      static_cast<float>(members * (members - 1) / 2);
    if (values[i] != want) {
      return absl::InternalError(absl::StrCat("value ", i, " is ", values[i], ", expected ", want));
    }
  }
  return absl::OkStatus();
}

Status Run(const char* const* arguments, const nccl::Calls& calls) {
  const absl::Duration timeout = absl::Milliseconds(std::atoi(arguments[4]));
  RETURN_IF_ERROR(cuda::ToStatus(cudaSetDevice(0), "choosing the device"));
  cudaStream_t stream = nullptr;
  RETURN_IF_ERROR(cuda::ToStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream"));
  CommunicatorOptions options{
      .group = "check", .epoch = 1, .rank = std::atoi(arguments[2]), .form_timeout = timeout};
  for (int rank = 0; rank < std::atoi(arguments[3]); ++rank)
    options.members.push_back(absl::StrCat("m", rank));
  ASSIGN_OR_RETURN(
      const std::unique_ptr<Communicator> member,
      CreateNcclCommunicator(calls, std::make_shared<comm_testing::FileRendezvous>(arguments[1]), options));
  const CallOptions call{.timeout = timeout, .memory = MemoryKind::kDevice, .stream = stream};
  RETURN_IF_ERROR(SumOnDevice(member.get(), call));
  return comm_testing::RunScript(member.get(), call,
                                 [](size_t n) { return std::make_shared<DeviceBuffer>(n); });
}

}  // namespace
}  // namespace coterie

int main(int argc, char** argv) {
  if (argc != 5) return 2;
  const coterie::StatusOr<coterie::nccl::Calls> calls = coterie::LoadNccl();
  if (!calls.ok()) {
    std::puts(std::string(calls.status().message()).c_str());
    return 3;
  }
  const coterie::Status status = coterie::Run(argv, *calls);
  std::puts(status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
