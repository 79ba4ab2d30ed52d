// Nothing stalls the step loop: it allocates nothing of size, and waits neither for its callers nor for its
// consumer.
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/format/model_files.h"
#include "model/lora/lora_adapter.h"
#include "tests/worker/engine/engine_harness.h"
#include "tests/worker/engine/forwarding_model.h"

namespace {

// Of the thread that asks, when it counts.
thread_local bool counting = false;
thread_local uint64_t n_allocations = 0;
thread_local uint64_t largest_allocation = 0;

// Unused under the sanitizers, which bring their own operator new.
[[maybe_unused]] void* CountedAllocate(size_t n_bytes) {
  if (counting) {
    ++n_allocations;
    largest_allocation = std::max<uint64_t>(largest_allocation, n_bytes);
  }
  void* memory = std::malloc(n_bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define COTERIE_COUNTS_ALLOCATIONS 1
void* operator new(size_t n_bytes) { return CountedAllocate(n_bytes); }
void* operator new[](size_t n_bytes) { return CountedAllocate(n_bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
// What kernels take their scratch from.
extern "C" void* aligned_alloc(size_t alignment, size_t n_bytes) noexcept {
  if (counting) {
    ++n_allocations;
    largest_allocation = std::max<uint64_t>(largest_allocation, n_bytes);
  }
  void* memory = nullptr;
  return posix_memalign(&memory, alignment, n_bytes) == 0 ? memory : nullptr;
}
extern "C" void* mmap(void* address, size_t n_bytes, int protection, int flags, int file,
                      off_t offset) noexcept {
  if (counting) {
    ++n_allocations;
    largest_allocation = std::max<uint64_t>(largest_allocation, n_bytes);
  }
  const long mapped = syscall(SYS_mmap, address, n_bytes, protection, flags, file, offset);  // NOLINT
  return reinterpret_cast<void*>(mapped);
}
#endif

namespace coterie {
namespace {

// Notes, from one Launch to the next, what the engine's thread allocated in between: all of the loop but the
// model.
class WatchedModel : public FakeModel {
 public:
  using FakeModel::FakeModel;
  StatusOr<StepTicket> Launch(const Batch& batch) override {
    counting = false;
    n_tokens_.fetch_add(batch.n_tokens());
    if (n_allocations > 0 && watching_) {
      allocations_.fetch_add(n_allocations);
      largest_.store(std::max(largest_.load(), largest_allocation));
    }
    StatusOr<StepTicket> ticket = FakeModel::Launch(batch);
    n_allocations = largest_allocation = 0;
    counting = true;
    return ticket;
  }

  std::atomic<bool> watching_{false};
  std::atomic<uint64_t> allocations_{0};
  std::atomic<uint64_t> largest_{0};
  std::atomic<uint64_t> n_tokens_{0};
};

TEST(StepLoopTest, InSteadyStateTheLoopAllocatesNothing) {
#ifndef COTERIE_COUNTS_ALLOCATIONS
  GTEST_SKIP() << "a sanitizer owns operator new in this build";
#endif
  if (EngineHarness::RunsLate()) GTEST_SKIP() << "a late model copies its batches";
  WatchedModel* model = nullptr;
  FakeModelOptions model_options;
  model_options.step_time = absl::Microseconds(200);
  EngineHarness harness({}, model_options, [&](FakeModelOptions options) {
    auto made = std::make_unique<WatchedModel>(options);
    model = made.get();
    return made;
  });
  auto submit = [&](int i, uint32_t n) {
    SequenceRequest request = TestRequest(TestPrompt(50, i), n);
    if (i % 2) request.sampling.temperature = 0.8f;
    if (i % 2) request.sampling.top_p = 0.9f;
    if (i % 3 == 0) request.sampling.repetition_penalty = 1.2f;
    if (i % 4 == 0) request.sampling.logprobs = 5;
    if (i % 3 == 1) request.adapters = {{harness.MakeAdapter("a"), 1.0f, "a"}};
    return harness.Submit(request);
  };
  std::vector<uint64_t> ids;
  for (int i = 0; i < 16; ++i) ids.push_back(submit(i, 800));
  harness.PumpUntil(
      [&] { return harness.answer(ids[15]).tokens.size() > 200; });  // every buffer has its size
  model->watching_ = true;
  const uint64_t steps = harness.engine().stats().steps;
  harness.PumpUntil([&] { return harness.answer(ids[15]).tokens.size() > 700; });
  model->watching_ = false;
  EXPECT_GT(harness.engine().stats().steps - steps, 400u);
  // Sixteen sequences cross a block's border 31 times each meanwhile: new keys, new cache entries, no
  // allocation. A slow consumer may let an output buffer grow once more.
  EXPECT_LE(model->allocations_, 4u) << "largest " << model->largest_;
  for (uint64_t id : ids) harness.WaitFinished(id);
}

// The real model, watched inside its steps, on one thread.
class WatchedDecoder : public ForwardingModel {
 public:
  using ForwardingModel::ForwardingModel;
  StatusOr<StepTicket> Launch(const Batch& batch) override {
    n_allocations = largest_allocation = 0;
    counting = true;
    StatusOr<StepTicket> ticket = ForwardingModel::Launch(batch);
    counting = false;
    largest_ = std::max(largest_.load(), largest_allocation);
    most_tokens_ = std::max(most_tokens_.load(), batch.n_tokens());
    return ticket;
  }
  std::atomic<uint64_t> largest_{0};
  std::atomic<int> most_tokens_{0};
};

TEST(StepLoopTest, TheModelAllocatesNothingOfSizeNotEvenInItsFirstAndLongestSteps) {
#ifndef COTERIE_COUNTS_ALLOCATIONS
  GTEST_SKIP() << "a sanitizer owns operator new in this build";
#endif
  if (EngineHarness::RunsLate()) GTEST_SKIP() << "a late model copies its batches";
  const std::filesystem::path data = std::filesystem::path(COTERIE_SOURCE_DIR) / "tests" / "data";
  const auto files = std::move(ModelFiles::Open(data / "tiny-llama-q.gguf")).value();
  std::vector<std::pair<Digest, std::filesystem::path>> adapters;
  for (const char* name : {"llama-all-linear", "llama-qv"}) {
    adapters.emplace_back(LoraAdapter::Load(data / "tiny-adapters" / name, files->config()).value()->digest(),
                          data / "tiny-adapters" / name);
  }
  for (const NumericsMode mode : {NumericsMode::kExact, NumericsMode::kFast}) {
    EngineOptions options;
    options.max_batch_tokens = 600;  // in several parts
    WatchedDecoder* model = nullptr;
    EngineHarness harness(options, {}, [&](FakeModelOptions) {
      DecoderOptions decoder;
      decoder.n_kv_blocks = 300;
      decoder.max_batch_tokens = options.max_batch_tokens;
      decoder.max_seqs = options.max_seqs;
      decoder.n_seats = 2 * options.max_seqs;  // a late model has two steps in flight
      decoder.max_logit_rows = options.max_logit_rows;
      auto backend = CreateCpuDecoderOps({.mode = mode, .n_threads = 1});
      auto made = std::make_unique<WatchedDecoder>(
          std::move(Decoder::Create(*files, *std::move(backend), decoder)).value());
      model = made.get();
      return made;
    });
    std::vector<uint64_t> ids;
    for (const auto& [digest, folder] : adapters) harness.AddAdapter(digest, folder);
    for (int i = 0; i < 12; ++i) {
      SequenceRequest request = TestRequest(TestPrompt(20 + 15 * i, i, files->config().vocab_size), 10);
      request.sampling.ignore_eos = true;
      if (i % 3 == 1) request.sampling.temperature = 0.9f;  // the whole row
      if (i % 3 == 2) request.sampling.temperature = 0.9f, request.sampling.top_k = 50;
      if (i % 4 == 3) request.prompt_logprobs_from = 1;
      if (i % 2 == 0) request.adapters = {{adapters[0].first, 1.0f, "a"}, {adapters[1].first, 0.5f, "b"}};
      ids.push_back(harness.Submit(std::move(request)));
    }
    for (uint64_t id : ids) harness.WaitFinished(id);
    EXPECT_GT(model->most_tokens_, 256);
    EXPECT_LE(model->largest_, 4096u) << "bytes at once";
  }
}

// Counts the blocks that steps bring to the block table.
class BlocksCounted : public FakeModel {
 public:
  using FakeModel::FakeModel;
  StatusOr<StepTicket> Launch(const Batch& batch) override {
    n_blocks_ += batch.changed_blocks.size();
    return FakeModel::Launch(batch);
  }
  std::atomic<size_t> n_blocks_{0};
};

TEST(StepLoopTest, AStepBringsOnlyTheBlocksThatChanged) {
  EngineOptions options;
  options.max_batch_tokens = 64;  // prompts in chunks
  BlocksCounted* model = nullptr;
  EngineHarness harness(options, {}, [&](FakeModelOptions fake) {
    auto made = std::make_unique<BlocksCounted>(fake);
    model = made.get();
    return made;
  });
  std::vector<uint64_t> ids;
  size_t n_blocks = 0;
  for (int i = 0; i < 5; ++i) {
    ids.push_back(harness.Submit(TestRequest(TestPrompt(50 + 100 * i, i), 200)));
    n_blocks += static_cast<size_t>(KvBlocksFor(50 + 100 * i + 199));  // the last token has no KV
  }
  for (uint64_t id : ids) harness.WaitFinished(id);
  EXPECT_EQ(model->n_blocks_, n_blocks) << "each block once";
}

TEST(StepLoopTest, AConsumerThatNeverComesHoldsUpNothingButItsOwnCredit) {
  FakeModelOptions model;
  EngineHarness harness({}, model);
  SequenceRequest request = TestRequest(TestPrompt(10, 1), 1000);
  request.initial_credit = 100;
  for (int i = 0; i < 8; ++i) harness.Submit(request);
  for (int i = 0; i < 1000 && harness.engine().stats().generated_tokens < 800; ++i) {
    absl::SleepFor(absl::Milliseconds(2));  // nobody takes outputs
  }
  absl::SleepFor(absl::Milliseconds(20));
  EXPECT_EQ(harness.engine().stats().generated_tokens, 800u);
}

TEST(StepLoopTest, CallersNeverWaitForAStep) {
  EngineHarness harness;
  harness.HoldSteps();
  const uint64_t first = harness.Submit(TestRequest(TestPrompt(10, 1), 3));
  while (harness.n_steps_arrived() == 0) absl::SleepFor(absl::Milliseconds(1));
  const uint64_t second = harness.Submit(TestRequest(TestPrompt(10, 2), 3));
  harness.engine().AddCredit(second, 5);
  harness.engine().Prefetch(Sha256("x"));
  harness.engine().Cancel(second);
  EXPECT_EQ(harness.n_steps_arrived(), 1) << "and all this while one step was under way";
  harness.LetStepsGo();
  harness.WaitFinished(first);
  harness.WaitFinished(second);
}

TEST(StepLoopTest, AnIdleEngineTakesNoSteps) {
  EngineHarness harness;
  harness.Run(TestRequest(TestPrompt(10, 1), 3));
  const uint64_t steps = harness.engine().stats().steps;
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(harness.engine().stats().steps, steps);
}

}  // namespace
}  // namespace coterie
