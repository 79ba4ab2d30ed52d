#ifndef COTERIE_TESTS_GPU_PLANTED_FAULTS_H_
#define COTERIE_TESTS_GPU_PLANTED_FAULTS_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "control.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/memory.h"

// Faults planted into kernels and their callers, each with the build that must find it. An emulation that
// does not find them is not to be believed where it finds none.

namespace coterie::cuda {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif

#define ONLY_IN_THE_TSAN_BUILD() \
  if (!kThreadSanitizer) GTEST_SKIP() << "the thread sanitizer finds this: preset tsan"
#define ONLY_IN_THE_ASAN_BUILD() \
  if (!kAddressSanitizer) GTEST_SKIP() << "the address and undefined sanitizers find this: preset asan"

inline constexpr char kRace[] = "data race";
// A sanitizer's own words come first where it is there.
inline constexpr char kFreed[] = "touches memory that was freed|Sanitizer: SEGV|Sanitizer:DEADLYSIGNAL";

using emulation::Order;

class PlantedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // a process of its own: sanitizers like no fork
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    for (void* pointer : device_) EXPECT_EQ(cudaFree(pointer), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    emulation::TheSettings() = {};
  }
  float* Floats(size_t n) { return static_cast<float*>(Bytes(n * sizeof(float))); }
  // A counter that is 0.
  uint32_t* Counter() {
    void* const counter = Bytes(sizeof(uint32_t));
    EXPECT_TRUE(SetToZero(counter, sizeof(uint32_t), "a counter").ok());
    return static_cast<uint32_t*>(counter);
  }
  void* Bytes(size_t n) {
    void* pointer = nullptr;
    EXPECT_EQ(cudaMalloc(&pointer, n), cudaSuccess);
    device_.push_back(pointer);
    return pointer;
  }
  float* Pinned() {
    void* pointer = nullptr;
    EXPECT_EQ(cudaHostAlloc(&pointer, sizeof(float), cudaHostAllocDefault), cudaSuccess);
    return static_cast<float*>(pointer);
  }
  // Runs the kernel in each order of lanes and blocks.
  template <class... Params, class... Args>
  void Run(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared_bytes, Args... args) {
    for (const Order order : {Order::kAscending, Order::kDescending, Order::kRandom}) {
      emulation::TheSettings().order = order;
      Launch(kernel, grid, block, shared_bytes, stream_, args...);
      EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    }
  }

  cudaStream_t stream_ = nullptr;
  std::vector<void*> device_;
};

}  // namespace coterie::cuda

#endif  // COTERIE_TESTS_GPU_PLANTED_FAULTS_H_
