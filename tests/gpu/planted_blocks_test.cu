// Blocks that meet at a counter, of which the last sums up what all have written: what is left out there must
// be found, by the bits of some order, for blocks run into each other at random; or by the thread sanitizer.
#include <gtest/gtest.h>

#include <vector>

#include "control.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "tests/gpu/planted_faults.h"

namespace coterie::cuda {
namespace {

enum class Lacks { kNothing, kBarrierBefore, kBarrierAfter, kReset, kRelease, kFence };
template <Lacks kLacks>
__global__ void SumByTheLast(float* parts, uint32_t* counter, float* sums) {
  uint32_t* const is_last = SharedMemory<uint32_t>();
  parts[blockIdx.x * blockDim.x + threadIdx.x] = 1;
  if (kLacks != Lacks::kBarrierBefore) BlockBarrier();
  if (threadIdx.x == 0) {
    if (kLacks == Lacks::kFence) DeviceFence();
    const uint32_t before =
        kLacks == Lacks::kRelease || kLacks == Lacks::kFence ? AtomicAdd(counter, 1) : AddRelease(counter, 1);
    *is_last = before + 1 == gridDim.x ? 1 : 0;
  }
  if (kLacks != Lacks::kBarrierAfter) BlockBarrier();
  if (*is_last == 0) return;
  if (kLacks != Lacks::kReset && threadIdx.x == 0) *counter = 0;
  const unsigned of_another_warp = (threadIdx.x + kWarpLanes) % blockDim.x;
  float sum = 0;
  for (unsigned block = 0; block < gridDim.x; ++block) sum += parts[block * blockDim.x + of_another_warp];
  sums[threadIdx.x] = sum;
}

class PlantedBlocksTest : public PlantedTest {
 protected:
  static constexpr unsigned kBlocks = 4, kThreads = 96;
  // In how many of some random orders a sum is wrong.
  template <Lacks kLacks>
  int WrongSums() {
    emulation::TheSettings().order = Order::kRandom;
    uint32_t* const counter = Counter();
    int n_wrong = 0;
    for (uint64_t seed = 0; seed < 40; ++seed) {
      emulation::TheSettings().seed = seed;
      float* const sums = Floats(kThreads);
      Launch(SumByTheLast<kLacks>, kBlocks, kThreads, 16, stream_, Floats(kBlocks * kThreads), counter, sums);
      EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
      std::vector<float> got(kThreads);
      EXPECT_EQ(cudaMemcpy(got.data(), sums, kThreads * sizeof(float), cudaMemcpyDeviceToHost), cudaSuccess);
      n_wrong += got == std::vector<float>(kThreads, kBlocks) ? 0 : 1;  // NaN is wrong as well
    }
    return n_wrong;
  }
};
using PlantedBlocksDeathTest = PlantedBlocksTest;

TEST_F(PlantedBlocksTest, TheLastBlockSumsWhatAllHaveWritten) { EXPECT_EQ(WrongSums<Lacks::kNothing>(), 0); }
TEST_F(PlantedBlocksTest, ACounterThatIsNotResetIsFoundByTheNextLaunch) {
  if (kThreadSanitizer) GTEST_SKIP() << "in its way a race: other builds find it by the sum";
  EXPECT_GT(WrongSums<Lacks::kReset>(), 20);
}
TEST_F(PlantedBlocksTest, NoBarrierBeforeABlockCountsItself) {
  if (kThreadSanitizer) GTEST_SKIP() << "see the death test";
  EXPECT_GT(WrongSums<Lacks::kBarrierBefore>(), 2);
}
TEST_F(PlantedBlocksTest, NoBarrierBeforeThreadsReadWhetherTheirBlockIsTheLast) {
  if (kThreadSanitizer) GTEST_SKIP() << "see the death test";
  EXPECT_GT(WrongSums<Lacks::kBarrierAfter>(), 2);
}
TEST_F(PlantedBlocksDeathTest, NoBarrierBeforeABlockCountsItself) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(WrongSums<Lacks::kBarrierBefore>(), kRace);
}
TEST_F(PlantedBlocksDeathTest, NoBarrierBeforeThreadsReadWhetherTheirBlockIsTheLast) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(WrongSums<Lacks::kBarrierAfter>(), kRace);
}
TEST_F(PlantedBlocksDeathTest, ACounterWithoutRelease) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(WrongSums<Lacks::kRelease>(), kRace);
}
TEST_F(PlantedBlocksDeathTest, ACounterWithoutAFenceBehindIt) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(WrongSums<Lacks::kFence>(), kRace);
}

}  // namespace
}  // namespace coterie::cuda
