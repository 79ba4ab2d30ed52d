// Kernels whose threads do not wait for each other, which the thread sanitizer must find; and the same ones
// when they do, where it must be silent.
#include <gtest/gtest.h>

#include "control.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "tests/gpu/planted_faults.h"

namespace coterie::cuda {
namespace {

using emulation::Order;
using PlantedRaceTest = PlantedTest;
using PlantedRaceDeathTest = PlantedTest;

// --- Lanes of a block, through shared memory ---
enum class Between { kNothing, kShuffle, kBallot, kWarpBarrier, kBlockBarrier };
// Each lane reads what another one wrote, `distance` lanes away.
template <Between kBetween>
__global__ void Neighbours(int distance, float* out) {
  float* shared = SharedMemory<float>();
  const unsigned i = threadIdx.x;
  shared[i] = static_cast<float>(i);
  if (kBetween == Between::kShuffle) ShuffleXor(1.0f, 1);
  if (kBetween == Between::kBallot) Ballot(true);
  if (kBetween == Between::kWarpBarrier) WarpBarrier();
  if (kBetween == Between::kBlockBarrier) BlockBarrier();
  out[blockIdx.x * blockDim.x + i] = shared[i ^ static_cast<unsigned>(distance)];
}
TEST_F(PlantedRaceTest, NeighboursWithABarrierAreSilent) {
  Run(Neighbours<Between::kWarpBarrier>, 9, 64, 256, 1, Floats(576));
  Run(Neighbours<Between::kBlockBarrier>, 9, 64, 256, 32, Floats(576));
}
TEST_F(PlantedRaceDeathTest, RaceOfWarpsWithoutABlockBarrier) {
  ONLY_IN_THE_TSAN_BUILD();
  float* out = Floats(64);
  EXPECT_DEATH(Run(Neighbours<Between::kNothing>, 1, 64, 256, 32, out), kRace);
}
TEST_F(PlantedRaceDeathTest, RaceOfWarpsWithOnlyAWarpBarrier) {
  ONLY_IN_THE_TSAN_BUILD();
  float* out = Floats(64);
  EXPECT_DEATH(Run(Neighbours<Between::kWarpBarrier>, 1, 64, 256, 32, out), kRace);
}
TEST_F(PlantedRaceDeathTest, RaceOfLanesWithoutAWarpBarrier) {
  ONLY_IN_THE_TSAN_BUILD();
  float* out = Floats(32);
  EXPECT_DEATH(Run(Neighbours<Between::kNothing>, 1, 32, 128, 1, out), kRace);
}
TEST_F(PlantedRaceDeathTest, AShuffleOrdersNothing) {
  ONLY_IN_THE_TSAN_BUILD();
  float* out = Floats(32);
  EXPECT_DEATH(Run(Neighbours<Between::kShuffle>, 1, 32, 128, 1, out), kRace);
}
TEST_F(PlantedRaceDeathTest, AVoteOrdersNothing) {
  ONLY_IN_THE_TSAN_BUILD();
  float* out = Floats(32);
  EXPECT_DEATH(Run(Neighbours<Between::kBallot>, 1, 32, 128, 1, out), kRace);
}

template <bool kWithBarrier>
__global__ void WriteAndLoadMatrices(uint32_t* out) {
  uint32_t* shared = SharedMemory<uint32_t>();
  for (int i = 0; i < 4; ++i) shared[i * kWarpLanes + LaneId()] = 1;
  if (kWithBarrier) WarpBarrier();
  uint32_t r[4];
  LoadMatrices4(r, shared + LaneId() * 4);
  out[LaneId()] = r[0] + r[1] + r[2] + r[3];
}
TEST_F(PlantedRaceTest, MatricesAfterABarrierAreSilent) {
  Run(WriteAndLoadMatrices<true>, 1, 32, 512, static_cast<uint32_t*>(Bytes(128)));
}
TEST_F(PlantedRaceDeathTest, MatricesLoadedWithoutABarrier) {
  ONLY_IN_THE_TSAN_BUILD();
  auto* out = static_cast<uint32_t*>(Bytes(128));
  EXPECT_DEATH(Run(WriteAndLoadMatrices<false>, 1, 32, 512, out), kRace);
}

// Warp 0 fills one of kBuffers buffers while warp 1 reads what it filled before: with two, each waits for the
// other at one of two barriers; one is filled again while it is still read.
template <int kBuffers>
__global__ void ProduceAndConsume(int n, float* out) {
  float* shared = SharedMemory<float>();
  float sum = 0;
  for (int i = 0; i < n; ++i) {
    float* buffer = shared + i % kBuffers * kWarpLanes;
    if (WarpId() == 0) buffer[LaneId()] = static_cast<float>(i);
    NamedBarrier(1 + i % 2, 64);
    if (WarpId() == 1) sum += buffer[LaneId() ^ 1];
  }
  if (WarpId() == 1) out[LaneId()] = sum;
}
TEST_F(PlantedRaceTest, BuffersBetweenNamedBarriersAreSilent) {
  Run(ProduceAndConsume<2>, 1, 64, 256, 50, Floats(32));
}
TEST_F(PlantedRaceDeathTest, ABufferFilledWhileItIsRead) {
  ONLY_IN_THE_TSAN_BUILD();
  float* out = Floats(32);
  EXPECT_DEATH(Run(ProduceAndConsume<1>, 1, 64, 256, 50, out), kRace);
}

// --- Copies to shared memory ---
enum class Slip { kNone, kNoWait, kNoBarrier, kSlotStillRead };
template <Slip kSlip>
__global__ void CopyStages(const uint4* from, uint4* to, int n) {
  uint4* shared = SharedMemory<uint4>();
  for (int i = 0; i < n; ++i) {
    CopyAsync16(shared + threadIdx.x, from + i * 32 + threadIdx.x);
    CommitCopies();
    if (kSlip != Slip::kNoWait) WaitCopies<0>();
    if (kSlip != Slip::kNoBarrier) WarpBarrier();
    to[i * 32 + threadIdx.x] = shared[threadIdx.x ^ 1];
    if (kSlip != Slip::kSlotStillRead) WarpBarrier();
  }
}
TEST_F(PlantedRaceTest, CopiesWithWaitsAndBarriersAreSilent) {
  void* from = Bytes(2048);
  ASSERT_TRUE(SetToZero(from, 2048, "a source").ok());
  auto* to = static_cast<uint4*>(Bytes(2048));
  Run(CopyStages<Slip::kNone>, 1, 32, 512, static_cast<const uint4*>(from), to, 4);
}
TEST_F(PlantedRaceTest, ACopyThatIsNotWaitedForIsNotThere) {
  void* from = Bytes(512);
  ASSERT_TRUE(SetToZero(from, 512, "a source").ok());
  auto* to = static_cast<uint4*>(Bytes(512));
  Launch(CopyStages<Slip::kNoWait>, 1, 32, 512, stream_, static_cast<const uint4*>(from), to, 1);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  uint4 got;
  ASSERT_EQ(cudaMemcpy(&got, to, sizeof(got), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(got.x, 0xFFFFFFFFu);
}
TEST_F(PlantedRaceDeathTest, ACopyThatOthersReadWithoutABarrier) {
  ONLY_IN_THE_TSAN_BUILD();
  const auto* from = static_cast<const uint4*>(Bytes(2048));
  auto* to = static_cast<uint4*>(Bytes(2048));
  EXPECT_DEATH(Run(CopyStages<Slip::kNoBarrier>, 1, 32, 512, from, to, 1), kRace);
}
TEST_F(PlantedRaceDeathTest, ACopyIntoWhatOthersStillRead) {
  ONLY_IN_THE_TSAN_BUILD();
  const auto* from = static_cast<const uint4*>(Bytes(2048));
  auto* to = static_cast<uint4*>(Bytes(2048));
  EXPECT_DEATH(Run(CopyStages<Slip::kSlotStillRead>, 1, 32, 512, from, to, 4), kRace);
}

// --- Blocks, through global memory ---
__global__ void OneWritesOneReads(unsigned writer, unsigned reader, unsigned lane, float* shared_by_all,
                                  float* out) {
  if (blockIdx.x == writer && threadIdx.x == 0) *shared_by_all = 1;
  if (blockIdx.x == reader && threadIdx.x == lane) *out = *shared_by_all;
}
TEST_F(PlantedRaceDeathTest, RaceOfTheSameLaneOfTwoBlocks) {
  ONLY_IN_THE_TSAN_BUILD();
  float *a = Floats(1), *b = Floats(1);
  EXPECT_DEATH(Run(OneWritesOneReads, 2, 32, 0, 0u, 1u, 0u, a, b), kRace);
}
TEST_F(PlantedRaceDeathTest, RaceOfDifferentLanesOfTwoBlocks) {
  ONLY_IN_THE_TSAN_BUILD();
  float *a = Floats(1), *b = Floats(1);
  EXPECT_DEATH(Run(OneWritesOneReads, 2, 32, 0, 0u, 1u, 17u, a, b), kRace);
}
TEST_F(PlantedRaceDeathTest, RaceOfBlocksThatRanOneAfterTheOther) {
  ONLY_IN_THE_TSAN_BUILD();
  float *a = Floats(1), *b = Floats(1);
  for (unsigned lane = 0; lane < 32; ++lane) {
    EXPECT_DEATH(
        {
          Launch(OneWritesOneReads, 12, 32, 0, stream_, 0u, 9u, lane, a, b);
          cudaStreamSynchronize(stream_);
        },
        kRace)
        << lane;
    if (lane == 2) lane = 29;
  }
}
__global__ void AllWrite(float* to) {
  if (threadIdx.x == blockIdx.x) *to = 1;
}
TEST_F(PlantedRaceDeathTest, BlocksThatWriteTheSame) {
  ONLY_IN_THE_TSAN_BUILD();
  float* to = Floats(1);
  EXPECT_DEATH(Run(AllWrite, 6, 32, 0, to), kRace);
}
TEST_F(PlantedRaceTest, GridsOneAfterTheOtherAreSilent) {
  float *a = Floats(1), *b = Floats(1);
  for (int i = 0; i < 3; ++i) {
    Run(OneWritesOneReads, 12, 32, 0, 0u, 100u, 0u, a, b);
    Run(OneWritesOneReads, 12, 32, 0, 100u, 9u, 5u, a, b);
  }
}

enum class Flag { kRight, kFences, kPlain, kNoAcquire, kNoRelease, kNoFenceBefore, kNoFenceAfter };
// Block 0 makes what block 1 takes.
template <Flag kFlag>
__global__ void HandOver(float* made, uint32_t* ready, float* out) {
  constexpr bool kRelaxed =
      kFlag == Flag::kFences || kFlag == Flag::kNoFenceBefore || kFlag == Flag::kNoFenceAfter;
  if (blockIdx.x == 0) {
    made[threadIdx.x] = 1;
    BlockBarrier();
    if (threadIdx.x == 0) {
      if (kFlag == Flag::kFences || kFlag == Flag::kNoFenceAfter) DeviceFence();
      if (kRelaxed || kFlag == Flag::kNoRelease) {
        AtomicAdd(ready, 1);
      } else {
        AddRelease(ready, 1);
      }
    }
  } else {
    if (threadIdx.x == 0) {
      if (kFlag == Flag::kPlain) {
        while (*static_cast<volatile uint32_t*>(ready) == 0) Pause();
      } else if (kRelaxed || kFlag == Flag::kNoAcquire) {
        while (AtomicAdd(ready, 0) == 0) Pause();
      } else {
        while (LoadAcquire(ready) == 0) Pause();
      }
      if (kFlag == Flag::kFences || kFlag == Flag::kNoFenceBefore) DeviceFence();
    }
    BlockBarrier();
    out[threadIdx.x] = made[threadIdx.x ^ 5];
  }
}
class HandOverTest : public PlantedTest {
 protected:
  template <Flag kFlag>
  void HandOverBy() {
    for (const Order order : {Order::kAscending, Order::kDescending, Order::kRandom}) {
      emulation::TheSettings().order = order;
      EXPECT_TRUE(SetToZero(ready_, sizeof(*ready_), "a counter").ok());
      Launch(HandOver<kFlag>, 2, 32, 0, stream_, made_, ready_, out_);
      EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    }
  }
  float *made_ = Floats(32), *out_ = Floats(32);
  uint32_t* ready_ = Counter();
};
using HandOverDeathTest = HandOverTest;
TEST_F(HandOverTest, ByReleaseAndAcquireIsSilent) { HandOverBy<Flag::kRight>(); }
TEST_F(HandOverTest, ByFencesIsSilent) { HandOverBy<Flag::kFences>(); }
TEST_F(HandOverDeathTest, APlainFlag) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(HandOverBy<Flag::kPlain>(), kRace);
}
TEST_F(HandOverDeathTest, ReleaseWithoutAcquire) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(HandOverBy<Flag::kNoAcquire>(), kRace);
}
TEST_F(HandOverDeathTest, AcquireWithoutRelease) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(HandOverBy<Flag::kNoRelease>(), kRace);
}
TEST_F(HandOverDeathTest, NoFenceBeforeTheCounter) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(HandOverBy<Flag::kNoFenceBefore>(), kRace);
}
TEST_F(HandOverDeathTest, NoFenceAfterTheCounter) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(HandOverBy<Flag::kNoFenceAfter>(), kRace);
}
__global__ void PollWithoutPause(const uint32_t* ready) {
  while (LoadAcquire(ready) == 0) {
  }
}
TEST_F(PlantedRaceDeathTest, PollingWithoutPause) {
  const uint32_t* ready = Counter();
  EXPECT_DEATH(Run(PollWithoutPause, 1, 32, 0, ready), "polls a counter without Pause");
}

}  // namespace
}  // namespace coterie::cuda
