// How fast the emulation is, by one core: figures for who decides how much of it a test can afford. Fails on
// no time.
#include <gtest/gtest.h>

#include <cstdio>
#include <ctime>

#include "control.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"

namespace coterie::cuda {
namespace {

__global__ void ManyProducts(int n, float* sums) {
  uint32_t a[4] = {0x3F803F80u, 0, 0, 0}, b[2] = {0x3F803F80u, 0};
  float d[4] = {};
  for (int i = 0; i < n; ++i) MmaBf16(d, a, b);
  if (sums != nullptr) sums[threadIdx.x] = d[0];
}
__global__ void ManyBarriers(int n) {
  for (int i = 0; i < n; ++i) BlockBarrier();
}
__global__ void ManyShuffles(int n, float* sums) {
  float value = 1;
  for (int i = 0; i < n; ++i) value = ShuffleXor(value, 1);
  if (sums != nullptr) sums[threadIdx.x] = value;
}
__global__ void Nothing() {}

template <class Run>
void Print(const char* what, double n, const Run& run) {
  const std::clock_t begin = std::clock();
  run();
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  std::printf("%-40s %10.0f /s\n", what, n / seconds);
}

TEST(EmulationSpeedTest, Prints) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  constexpr int kRounds = 50;
#else
  constexpr int kRounds = 2000;
#endif
  Print("products of a warp (m16n8k16)", 4.0 * kRounds * 4,
        [] { Launch(ManyProducts, 4, 128, 0, nullptr, kRounds, static_cast<float*>(nullptr)); });
  Print("shuffles of a warp", 4.0 * kRounds * 4,
        [] { Launch(ManyShuffles, 4, 128, 0, nullptr, kRounds, static_cast<float*>(nullptr)); });
  Print("barriers of 128 threads", 4.0 * kRounds, [] { Launch(ManyBarriers, 4, 128, 0, nullptr, kRounds); });
  Print("blocks of 128 threads", kRounds, [] { Launch(Nothing, kRounds, 128, 0, nullptr); });
  Print("launches", kRounds, [] {
    for (int i = 0; i < kRounds; ++i) Launch(Nothing, 1, 32, 0, nullptr);
  });
}

}  // namespace
}  // namespace coterie::cuda
