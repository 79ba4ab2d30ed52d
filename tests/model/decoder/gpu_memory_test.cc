// Memory that is wanting, at every place where a GPU's backend asks for some: loading ends with a word on
// what, and a model that runs goes on with the same bits or says why it does not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "common/memory.h"
#include "tests/model/decoder/gpu_decoder.h"
#include "tests/testing/seed.h"
#ifdef COTERIE_EMULATED_GPU
#include "tests/gpu/emulation/control.h"

namespace coterie {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using testing::GpuDecoder;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::LoadGpuDecoder;
using testing::TestSequence;

constexpr int kMemoryTestSeqs = 8;

class GpuMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // What is made once and kept is there before anything is counted.
    StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
    ASSERT_TRUE(gpu.ok()) << gpu.status();
    golden_ = Serve(&*gpu).value();
    adapter_ = gpu->adapters[0]->packed;
  }
  void TearDown() override { emulation::ForgetFailures(); }

  // Prompts, then steps of decode: with adapters (a graph is captured and replayed) and without (another).
  static StatusOr<std::vector<uint32_t>> Serve(GpuDecoder* gpu) {
    std::vector<TestSequence> sequences(3);
    for (int s = 0; s < 3; ++s) {
      for (int i = 0; i < 20; ++i) sequences[s].tokens.push_back((37 * i + 101 * s) % 384);
      sequences[s].UseBlocks(2 * s, 20);
    }
    sequences[1].adapter_slots = {0};
    sequences[1].weights = {1};
    sequences[2].adapter_slots = {3, 1};
    sequences[2].weights = {0.5f, 0.25f};
    std::vector<TestSequence*> all = {&sequences[0], &sequences[1], &sequences[2]};
    std::vector<uint32_t> bits;
    for (const auto& [count, n_tokens] : {std::pair(3, 9), {3, 1}, {3, 1}, {3, 1}, {1, 1}, {1, 1}}) {
      const std::vector<TestSequence*> some(all.begin(), all.begin() + count);
      ASSIGN_OR_RETURN(const std::vector<uint32_t> step, testing::LastLogits(gpu, some, n_tokens));
      bits.insert(bits.end(), step.begin(), step.end());
    }
    return bits;
  }

  // That the status says what was wanting.
  static void ExpectNamed(const Status& status) {
    const emulation::FailedAllocation failed = emulation::LastFailedAllocation();
    ASSERT_NE(failed.call, "");
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << failed.call << ": " << status;
    if (failed.bytes == 0) {  // a stream, an event
      EXPECT_THAT(std::string(status.message()), HasSubstr("cudaErrorMemoryAllocation")) << failed.call;
      return;
    }
    EXPECT_THAT(std::string(status.message()),
                AnyOf(HasSubstr("no " + MemoryText(failed.bytes) + " of device memory for "),
                      HasSubstr("no " + MemoryText(failed.bytes) + " of pinned host memory for ")))
        << failed.call;
  }

  std::vector<uint32_t> golden_;
  std::shared_ptr<const PackedAdapter> adapter_;
};

TEST_F(GpuMemoryTest, LoadingEndsWithAWordOnWhatWasWantingAndLeavesNothing) {
  const emulation::Counts before = emulation::CountsNow();
  { ASSERT_TRUE(LoadGpuDecoder(kMemoryTestSeqs).ok()); }
  const auto n = static_cast<int>(emulation::CountsNow().allocations - before.allocations);
  ASSERT_GT(n, 50);
  for (int i = 0; i < n; ++i) {
    for (const int times : {1, emulation::kForEver}) {
      emulation::FailAllocationAfter(i, times);
      const StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
      emulation::ForgetFailures();
      if (gpu.ok()) {  // what is kept was given up, and there was room at the second attempt
        ASSERT_TRUE(times == 1 && emulation::LastFailedAllocation().call == "cudaHostAlloc")
            << i << " of " << n;
        continue;
      }
      ExpectNamed(gpu.status());
      const emulation::Counts now = emulation::CountsNow();
      ASSERT_EQ(now.live_allocations, before.live_allocations) << "allocation " << i;
      ASSERT_EQ(now.live_objects, before.live_objects) << "allocation " << i;
      ASSERT_EQ(now.live_bytes, before.live_bytes) << "allocation " << i;
    }
  }
  StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
  ASSERT_TRUE(gpu.ok()) << gpu.status();
  EXPECT_EQ(Serve(&*gpu).value(), golden_);
}

// Graphs and what steps report are all that steps want memory for.
TEST_F(GpuMemoryTest, StepsGoOnWithTheSameBitsWhateverIsWanting) {
  int n = 0;
  {
    StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
    const uint64_t before = emulation::CountsNow().allocations;
    ASSERT_EQ(Serve(&*gpu).value(), golden_);
    n = static_cast<int>(emulation::CountsNow().allocations - before);
  }
  ASSERT_GE(n, 10);
  for (int i = 0; i < n; ++i) {
    for (const int times : {1, emulation::kForEver}) {
      StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
      ASSERT_TRUE(gpu.ok()) << gpu.status();
      emulation::FailAllocationAfter(i, times);
      const StatusOr<std::vector<uint32_t>> served = Serve(&*gpu);
      const std::string call = emulation::LastFailedAllocation().call;
      ASSERT_NE(call, "") << i;
      if (call == "cudaHostAlloc") {  // the logits that this test asks for
        ExpectNamed(served.status());
      } else {
        ASSERT_TRUE(served.ok()) << call << ": " << served.status();
        EXPECT_TRUE(*served == golden_) << call;
      }
      emulation::ForgetFailures();
      const uint64_t launched = emulation::CountsNow().graph_launches;
      EXPECT_TRUE(Serve(&*gpu).value() == golden_) << call;
      if (times != 1) continue;
      // The device is full: no graph is tried again.
      if (call.find("Graph") != std::string::npos || call.find("Capture") != std::string::npos) {
        EXPECT_EQ(emulation::CountsNow().graph_launches, launched) << call;
        EXPECT_THAT(*gpu->log, ElementsAre(HasSubstr("without CUDA graphs"))) << call;
      } else {
        EXPECT_GT(emulation::CountsNow().graph_launches, launched) << call;
        EXPECT_THAT(*gpu->log, IsEmpty()) << call;
      }
    }
  }
}

// A launch that fails spoils the capture it belongs to, whose work is then done without; any other one means
// that nothing of the device can be relied on.
TEST_F(GpuMemoryTest, ALaunchThatFailsSpoilsTheCaptureOrEndsTheModel) {
  int n = 0;
  {
    StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
    const uint64_t before = emulation::CountsNow().launches;
    ASSERT_EQ(Serve(&*gpu).value(), golden_);
    n = static_cast<int>(emulation::CountsNow().launches - before);
  }
  std::mt19937 random(testing::TestSeed());
  int n_same = 0, n_ended = 0;
  for (int i = 0; i < n; i += std::uniform_int_distribution<int>(1, 8)(random)) {
    StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
    ASSERT_TRUE(gpu.ok()) << gpu.status();
    emulation::FailLaunchAfter(i);
    const StatusOr<std::vector<uint32_t>> served = Serve(&*gpu);
    if (served.ok()) {
      EXPECT_TRUE(*served == golden_) << i;
      EXPECT_TRUE(Serve(&*gpu).value() == golden_) << i;
      ++n_same;
    } else {
      EXPECT_TRUE(absl::IsUnavailable(served.status())) << served.status();
      EXPECT_THAT(std::string(served.status().message()), HasSubstr("cudaErrorMemoryAllocation"));
      ++n_ended;
    }
    emulation::ForgetFailures();
  }
  EXPECT_GT(n_same, 0);
  EXPECT_GT(n_ended, 0);
}

TEST_F(GpuMemoryTest, AnAdapterWithoutMemoryLeavesTheOthersAndTheStepsAsTheyWere) {
  StatusOr<GpuDecoder> gpu = LoadGpuDecoder(kMemoryTestSeqs);
  ASSERT_TRUE(gpu.ok()) << gpu.status();
  constexpr int kFreeSlot = 5;
  emulation::FailAllocationAfter(0, emulation::kForEver);
  ExpectNamed(testing::LoadTinyAdapter(gpu->decoder.get(), "llama-exclude").status());
  emulation::ForgetFailures();
  const emulation::Counts before = emulation::CountsNow();
  emulation::FailAllocationAfter(0);
  gpu->slots().Fill(kFreeSlot, adapter_);
  ExpectNamed(gpu->slots().Error(kFreeSlot));
  EXPECT_TRUE(gpu->slots().Ready(kFreeSlot)) << "nobody is to wait for it";
  EXPECT_EQ(Serve(&*gpu).value(), golden_);
  gpu->slots().Clear(kFreeSlot);
  EXPECT_TRUE(gpu->slots().Error(kFreeSlot).ok());
  EXPECT_EQ(emulation::CountsNow().live_bytes, before.live_bytes);
  // The same slot, once there is memory; and in the place of another one.
  testing::FillAndWait(&gpu->slots(), kFreeSlot, adapter_);
  EXPECT_TRUE(gpu->slots().Error(kFreeSlot).ok());
  gpu->slots().Clear(0);
  testing::FillAndWait(&gpu->slots(), 0, adapter_);
  EXPECT_EQ(Serve(&*gpu).value(), golden_);
}

}  // namespace
}  // namespace coterie
#endif  // COTERIE_EMULATED_GPU
