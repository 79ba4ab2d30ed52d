// A binary with device code starts on any machine: where no driver is, CUDA says so and nothing else happens.
#include <gtest/gtest.h>

#include <memory>

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/memory.h"

namespace coterie::cuda {
namespace {

__global__ void SumLanes(float* sum) {
  const float value = WarpSum(static_cast<float>(LaneId()));
  if (LaneId() == 0) *sum = value;
}

TEST(NvccStartTest, SaysThatThereIsNoDevice) {
  int n_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&n_devices);
  cudaGetLastError();
  if (error == cudaSuccess && n_devices > 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_FALSE(ToStatus(error, "looking for devices").ok());
  const auto memory = DeviceMemory::Allocate(4, "a test");
  ASSERT_FALSE(memory.ok());
  EXPECT_NE(memory.status().message(), "");
  Launch(SumLanes, 1, 32, 0, nullptr, static_cast<float*>(nullptr));
  EXPECT_NE(cudaGetLastError(), cudaSuccess);
}

TEST(NvccStartTest, RunsAKernelWhereADeviceIs) {
  int n_devices = 0;
  if (cudaGetDeviceCount(&n_devices) != cudaSuccess || n_devices == 0) {
    cudaGetLastError();
    GTEST_SKIP() << "this machine has no GPU";
  }
  auto memory = DeviceMemory::Allocate(4, "a test");
  ASSERT_TRUE(memory.ok()) << memory.status();
  Launch(SumLanes, 1, 32, 0, nullptr, memory->As<float>());
  float sum = 0;
  ASSERT_EQ(cudaMemcpy(&sum, memory->data(), sizeof(sum), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(sum, 496.0f);
}

}  // namespace
}  // namespace coterie::cuda
