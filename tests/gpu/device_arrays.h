#ifndef COTERIE_TESTS_GPU_DEVICE_ARRAYS_H_
#define COTERIE_TESTS_GPU_DEVICE_ARRAYS_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "control.h"
#include "gtest/gtest.h"
#include "kernels/cuda/memory.h"
#include "tests/testing/seed.h"

namespace coterie::cuda {

// A fixture for kernels: a stream, and arrays on the emulated device, in one of the orders in which lanes and
// blocks may get their turn. Arrays without values are NaN throughout. Freeing them finds writes behind them.
class DeviceArraysTest : public ::testing::TestWithParam<emulation::Order> {
 protected:
  void SetUp() override {
    if (!emulation::kIsEmulated && GetParam() != emulation::Order::kRandom) {
      GTEST_SKIP() << "a real device has an order of its own";
    }
    emulation::TheSettings().order = GetParam();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ == nullptr) return;
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    arrays_.clear();
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
    emulation::TheSettings().order = emulation::Order::kAscending;
  }

  template <class T>
  T* DeviceOf(size_t n) {
    StatusOr<DeviceMemory> memory =
        DeviceMemory::Allocate(n * sizeof(T) + (n == 0 ? 1 : 0), "a test's array");
    EXPECT_TRUE(memory.ok()) << memory.status();
    arrays_.push_back(*std::move(memory));
    if (!emulation::kIsEmulated && memory.ok()) {  // as fresh memory of the emulation is
      EXPECT_EQ(cudaMemset(arrays_.back().data(), 0xFF, arrays_.back().bytes()), cudaSuccess);
      EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    }
    return arrays_.back().As<T>();
  }
  template <class T>
  T* Device(const std::vector<T>& values) {
    T* const pointer = DeviceOf<T>(values.size());
    Write(pointer, values);
    return pointer;
  }
  template <class T>
  void Write(T* to, const std::vector<T>& values) {
    if (values.empty()) return;
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_TRUE(CopyToDevice(to, values.data(), values.size() * sizeof(T), "a test's values").ok());
  }
  template <class T>
  std::vector<T> Host(const T* pointer, size_t n) {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<T> values(n);
    if (n == 0) return values;
    EXPECT_EQ(cudaMemcpy(values.data(), pointer, n * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

  // --- Random inputs ---
  int Between(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  template <class T>
  const T& OneOf(const std::vector<T>& choices) {
    return choices[static_cast<size_t>(Between(0, static_cast<int>(choices.size()) - 1))];
  }
  float Normal() { return std::normal_distribution<float>()(random_); }
  std::vector<float> Normals(size_t n) {
    std::vector<float> values(n);
    for (float& value : values) value = Normal();
    return values;
  }

  cudaStream_t stream_ = nullptr;
  std::mt19937 random_{testing::TestSeed()};

 private:
  std::vector<DeviceMemory> arrays_;
};

inline std::string OrderName(const ::testing::TestParamInfo<emulation::Order>& info) {
  const char* const names[] = {"Ascending", "Descending", "Random"};
  return names[static_cast<int>(info.param)];
}

}  // namespace coterie::cuda

// Runs the fixture's tests in every order.
#define COTERIE_IN_ALL_ORDERS(fixture)                                                                     \
  INSTANTIATE_TEST_SUITE_P(                                                                                \
      Orders, fixture,                                                                                     \
      ::testing::Values(::coterie::emulation::Order::kAscending, ::coterie::emulation::Order::kDescending, \
                        ::coterie::emulation::Order::kRandom),                                             \
      ::coterie::cuda::OrderName)

#endif  // COTERIE_TESTS_GPU_DEVICE_ARRAYS_H_
