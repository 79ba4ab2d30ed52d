// Memory is counted before it is taken, and what is not used is not paid for.
#include "model/decoder/memory_plan.h"

#include <unistd.h>

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "tests/model/format/expect_refused.h"
#include "tests/testing/backends.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMb = uint64_t{1} << 20;

std::unique_ptr<ModelFiles> Open(const std::string& name) {
  return std::move(ModelFiles::Open(std::filesystem::path(COTERIE_SOURCE_DIR) / "tests" / "data" / name))
      .value();
}

std::unique_ptr<DecoderOps> MakeBackend(NumericsMode mode = NumericsMode::kFast) {
  return std::move(CreateCpuDecoderOps({.mode = mode, .n_threads = 1})).value();
}

uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t DemandOf(const MemoryPlan& plan, const std::string& what) {
  for (const MemoryPlan::Demand& demand : plan.demands) {
    if (demand.what == what) return demand.bytes;
  }
  ADD_FAILURE() << what;
  return 0;
}

TEST(MemoryPlanTest, SaysWhatTheDecoderThenTakes) {
  for (const char* model :
       {"tiny-llama", "tiny-llama-q.gguf", "tiny-qwen3.gguf", "tiny-phi3", "tiny-gemma3.gguf"}) {
    const auto files = Open(model);
    for (const NumericsMode mode : {NumericsMode::kExact, NumericsMode::kFast}) {
      DecoderOptions options;
      options.n_kv_blocks = 37;
      const MemoryPlan plan = PlanMemory(*files, options, *MakeBackend(mode)).value();
      const auto decoder = std::move(Decoder::Create(*files, MakeBackend(mode), options)).value();
      EXPECT_EQ(DemandOf(plan, "KV cache"), decoder->info().kv_bytes);
      EXPECT_GE(DemandOf(plan, "weights"), decoder->info().weight_bytes);
      EXPECT_LE(DemandOf(plan, "weights"), decoder->info().weight_bytes * 11 / 10);
      EXPECT_EQ(DemandOf(plan, "logits"), 4u * 16 * static_cast<uint64_t>(decoder->info().vocab_size));
    }
  }
}

// cuBLASLt's workspace and the memory for unpacked weights are in the plan, and are what is taken.
TEST(MemoryPlanTest, FastPrefillTakesWhatThePlanSaysBesideAllElse) {
  if (!testing::HasFastGpu()) GTEST_SKIP() << "no GPU with cuBLASLt is here, and this build emulates none";
  for (const char* model : {"tiny-llama", "tiny-llama-q.gguf"}) {
    const auto files = Open(model);
    DecoderOptions options;
    options.n_kv_blocks = 37;
    uint64_t planned[2], taken[2];
    for (const bool fast : {false, true}) {
      auto backend = testing::MakeDecoderOps(fast ? testing::Backend::kGpuFast : testing::Backend::kGpu);
      const MemoryPlan plan = PlanMemory(*files, options, *backend).value();
      planned[fast] = plan.bytes_at_start();
      constexpr char kWhat[] = "cuBLASLt and unpacked weights";
      EXPECT_EQ(plan.ToText().find(kWhat) != std::string::npos, fast) << plan.ToText();
      if (fast) {
        EXPECT_GE(DemandOf(plan, kWhat), uint64_t{32} << 20);
      }
      const uint64_t before = backend->Room().bytes;
      const auto decoder = std::move(Decoder::Create(*files, std::move(backend), options)).value();
      taken[fast] = before - decoder->backend().Room().bytes;
    }
    EXPECT_EQ(taken[true] - taken[false], planned[true] - planned[false]);
  }
}

TEST(MemoryPlanTest, ARefusalNamesEveryDemandTheRoomAndWhatToChange) {
  MemoryPlan plan;
  plan.demands = {{"weights", 300 * kMb, true, "a smaller base"},
                  {"KV cache", 500 * kMb, true, "--kv-tokens"},
                  {"logits", 4000 * kMb, false, "--max-logit-rows"}};
  EXPECT_TRUE(plan.Check({800 * kMb, "memory.max of cgroup /x is 1000 MB"}).ok()) << "logits come with use";
  const Status status = plan.Check({799 * kMb, "memory.max of cgroup /x is 1000 MB"});
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  for (const char* part :
       {"weights 300 MB", "KV cache 500 MB", "logits up to 4000 MB", "800 MB are taken at start",
        "799 MB are left", "cgroup /x", "KV cache: --kv-tokens makes that smaller"}) {
    EXPECT_THAT(std::string(status.message()), HasSubstr(part));
  }
}

TEST(MemoryPlanTest, TheBlockTableHoldsASequencesWholeContextAtEachSeat) {
  const auto files = Open("tiny-llama");
  DecoderOptions options;
  options.n_kv_blocks = 20;
  options.max_seqs = 32;
  const auto backend = MakeBackend();
  const MemoryPlan plan = PlanMemory(*files, options, *backend).value();
  const auto table =
      std::ranges::find(plan.demands, std::string_view("block table"), &MemoryPlan::Demand::what);
  ASSERT_NE(table, plan.demands.end());
  // The context of 256 is 16 blocks.
  EXPECT_EQ(table->bytes, 4u * 32 * 16);
}

TEST(MemoryPlanTest, LogitsNobodyAskedForTakeNoMemory) {
  const auto files = Open("tiny-llama");
  DecoderOptions options;
  options.n_kv_blocks = 16;
  options.max_logit_rows = 1 << 17;  // of 384 logits: 200 MB
  const uint64_t before = ResidentBytes();
  const auto decoder = std::move(Decoder::Create(*files, MakeBackend(), options)).value();
  EXPECT_LT(ResidentBytes(), before + 100 * kMb);
  EXPECT_EQ(DemandOf(PlanMemory(*files, options, *MakeBackend()).value(), "logits"), uint64_t{384 * 4} << 17);
}

TEST(MemoryPlanTest, MemoryThatIsNotThereIsAnErrorNotAnEnd) {
  const auto files = Open("tiny-llama");
  DecoderOptions options;
  options.kv_bytes = size_t{1} << 42;  // addresses for it would be had
  const auto decoder = Decoder::Create(*files, MakeBackend(), options);
  EXPECT_EQ(decoder.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(decoder.status().message()), HasSubstr("no memory for the KV cache of"));
}

TEST(MemoryPlanTest, HeadsThatAttentionCannotDoAreRefusedBeforeAnythingIsPacked) {
  auto files = Open("tiny-llama");
  const auto backend = MakeBackend();
  KvCacheShape shape{3, 4, 2, 512};
  EXPECT_REFUSED(backend->MakeKvCache(shape).status(), absl::StatusCode::kInvalidArgument,
                 "head_dim 512 (at most 256)");
}

}  // namespace
}  // namespace coterie
