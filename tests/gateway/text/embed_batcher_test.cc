#include "gateway/text/embed_batcher.h"

#include <atomic>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "gateway/text/encoder_embedder.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/encoder/encoder.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Tokens = EmbedBatcher::Tokens;
using Urgency = TextEmbedder::Urgency;

// A pass that waits until it may go and notes the first token of every text it was given; a text's
// "embedding" is its tokens.
class HeldPass {
 public:
  EmbedBatcher::Pass AsPass() {
    return [this](std::span<const Tokens> texts) -> StatusOr<std::vector<std::vector<float>>> {
      MutexLock lock(&mutex_);
      std::vector<int32_t> firsts;
      std::vector<std::vector<float>> out;
      for (const Tokens& text : texts) {
        firsts.push_back(text[0]);
        out.emplace_back(text.begin(), text.end());
      }
      passes_.push_back(std::move(firsts));
      changed_.SignalAll();
      while (n_allowed_ < passes_.size()) changed_.Wait(&mutex_);
      if (!error_.ok()) return error_;
      return out;
    };
  }
  void WaitForPass(size_t n) {
    MutexLock lock(&mutex_);
    while (passes_.size() < n) changed_.Wait(&mutex_);
  }
  void Allow(size_t n) {
    MutexLock lock(&mutex_);
    n_allowed_ = n;
    changed_.SignalAll();
  }
  void Fail(Status error) {
    MutexLock lock(&mutex_);
    error_ = std::move(error);
  }
  std::vector<std::vector<int32_t>> passes() const {
    MutexLock lock(&mutex_);
    return passes_;
  }

 private:
  mutable Mutex mutex_;
  CondVar changed_;
  size_t n_allowed_ = 0;
  Status error_;
  std::vector<std::vector<int32_t>> passes_;
};

using Embedded = std::future<StatusOr<std::vector<float>>>;

Embedded Submit(EmbedBatcher* batcher, Tokens text, Urgency urgency = Urgency::kRequest,
                CancelFlag cancelled = CancelFlag()) {
  auto promise = std::make_shared<std::promise<StatusOr<std::vector<float>>>>();
  Embedded result = promise->get_future();
  batcher->Submit(std::move(text), urgency, std::move(cancelled),
                  [promise](StatusOr<std::vector<float>> e) { promise->set_value(std::move(e)); });
  return result;
}

// The first text, in a pass of its own on the batcher's thread, which waits there.
Embedded SubmitFirst(EmbedBatcher* batcher, HeldPass* pass, Tokens text) {
  Embedded result = Submit(batcher, std::move(text), Urgency::kBulk);
  pass->WaitForPass(1);  // nobody else had to come
  return result;
}

TEST(EmbedBatcherTest, AnIdleEncoderStartsAtOnceAndWhatComesMeanwhileGoesTogether) {
  HeldPass pass;
  EmbedBatcher batcher({}, pass.AsPass());
  std::vector<Embedded> results;
  results.push_back(SubmitFirst(&batcher, &pass, {1, 10}));
  for (int32_t i = 2; i <= 8; ++i) results.push_back(Submit(&batcher, {i, 10 * i}));
  pass.Allow(100);
  for (int32_t i = 1; i <= 8; ++i) {
    const auto embedding = results[static_cast<size_t>(i - 1)].get();
    ASSERT_TRUE(embedding.ok()) << embedding.status();
    EXPECT_THAT(*embedding, ElementsAre(i, 10 * i));
  }
  EXPECT_THAT(pass.passes(), ElementsAre(ElementsAre(1), ElementsAre(2, 3, 4, 5, 6, 7, 8)));
  EXPECT_EQ(batcher.passes(), 2u);
  EXPECT_EQ(batcher.texts(), 8u);
}

TEST(EmbedBatcherTest, WhatWasCancelledWhileItWaitedCostsNoPass) {
  HeldPass pass;
  EmbedBatcher batcher({}, pass.AsPass());
  Embedded first = SubmitFirst(&batcher, &pass, {1});
  CancelFlag bulk_gone, question_gone;
  std::vector<Embedded> gone;
  for (int32_t i = 10; i < 20; ++i) gone.push_back(Submit(&batcher, {i}, Urgency::kBulk, bulk_gone));
  gone.push_back(Submit(&batcher, {20}, Urgency::kRequest, question_gone));
  Embedded wanted = Submit(&batcher, {2}, Urgency::kBulk);
  bulk_gone.Set();
  question_gone.Set();
  pass.Allow(100);
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(wanted.get().ok());
  for (Embedded& one : gone) EXPECT_TRUE(absl::IsCancelled(one.get().status()));
  EXPECT_THAT(pass.passes(), ElementsAre(ElementsAre(1), ElementsAre(2)));
  EXPECT_EQ(batcher.texts(), 2u);
}

TEST(EmbedBatcherTest, WhileQuestionsComeOtherTextsTakeOneCore) {
  std::atomic<int> n_on_all = 0, n_aside = 0;
  const auto counting = [](std::atomic<int>* n) -> EmbedBatcher::Pass {
    return [n](std::span<const Tokens> texts) -> StatusOr<std::vector<std::vector<float>>> {
      ++*n;
      return std::vector<std::vector<float>>(texts.size(), {1});
    };
  };
  EmbedBatcher batcher({}, counting(&n_on_all), counting(&n_aside));
  EXPECT_TRUE(Submit(&batcher, {1}, Urgency::kBulk).get().ok());
  EXPECT_EQ(n_on_all, 1);  // nobody asks anything
  EXPECT_TRUE(Submit(&batcher, {2}, Urgency::kRequest).get().ok());
  EXPECT_EQ(n_on_all, 2);
  EXPECT_TRUE(Submit(&batcher, {3}, Urgency::kBulk).get().ok());
  EXPECT_EQ(n_aside, 1);
  EXPECT_EQ(n_on_all, 2);
}

TEST(EmbedBatcherTest, WhereAllThatWaitsWasCancelledNoPassIsMade) {
  HeldPass pass;
  EmbedBatcher batcher({}, pass.AsPass());
  Embedded first = SubmitFirst(&batcher, &pass, {1});
  CancelFlag cancelled;
  Embedded gone = Submit(&batcher, {2}, Urgency::kBulk, cancelled);
  cancelled.Set();
  pass.Allow(1);
  EXPECT_TRUE(first.get().ok());
  EXPECT_TRUE(absl::IsCancelled(gone.get().status()));
  EXPECT_EQ(batcher.passes(), 1u);
}

TEST(EmbedBatcherTest, AQuestionThatFindsTheEncoderIdleIsEmbeddedWhereItComesFrom) {
  std::vector<std::thread::id> passes;
  EmbedBatcher batcher({}, [&](std::span<const Tokens> texts) -> StatusOr<std::vector<std::vector<float>>> {
    passes.push_back(std::this_thread::get_id());
    return std::vector<std::vector<float>>(texts.size(), {1});
  });
  std::thread::id answered;
  bool inner_ok = false;
  batcher.Submit({1}, Urgency::kRequest, CancelFlag(), [&](const StatusOr<std::vector<float>>&) {
    answered = std::this_thread::get_id();
    // The encoder is free again: this one does not wait for the callback's end either.
    batcher.Submit({2}, Urgency::kRequest, CancelFlag(),
                   [&](const StatusOr<std::vector<float>>& e) { inner_ok = e.ok(); });
  });
  EXPECT_EQ(answered, std::this_thread::get_id());
  EXPECT_TRUE(inner_ok);
  EXPECT_TRUE(Submit(&batcher, {3}, Urgency::kBulk).get().ok());
  ASSERT_EQ(passes.size(), 3u);
  EXPECT_EQ(passes[0], std::this_thread::get_id());
  EXPECT_EQ(passes[1], std::this_thread::get_id());
  EXPECT_NE(passes[2], std::this_thread::get_id());
}

TEST(EmbedBatcherTest, WhatComesDuringAQuestionsOwnPassIsTakenUpAfterItAndStopWaitsForIt) {
  HeldPass pass;
  EmbedBatcher batcher({}, pass.AsPass());
  Embedded own, waiting;
  std::thread caller([&] { own = Submit(&batcher, {1}); });
  pass.WaitForPass(1);
  waiting = Submit(&batcher, {2});
  pass.Allow(2);
  EXPECT_TRUE(waiting.get().ok());
  caller.join();
  EXPECT_TRUE(own.get().ok());

  caller = std::thread([&] { own = Submit(&batcher, {3}); });
  pass.WaitForPass(3);
  Embedded left = Submit(&batcher, {4});
  std::thread stop([&] { batcher.Stop(); });
  // Refused at once means that Stop has begun; what waits it refuses once the pass is over.
  while (Submit(&batcher, {5}).wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
  }
  EXPECT_EQ(left.wait_for(std::chrono::milliseconds(20)), std::future_status::timeout);
  pass.Allow(100);
  stop.join();
  caller.join();
  EXPECT_TRUE(own.get().ok());
  EXPECT_EQ(left.get().status().code(), absl::StatusCode::kUnavailable);
}

TEST(EmbedBatcherTest, APassHoldsNoMoreThanItsTokensButOneTextAlways) {
  HeldPass pass;
  EmbedBatcher batcher({.max_batch_tokens = 4}, pass.AsPass());
  std::vector<Embedded> results;
  results.push_back(SubmitFirst(&batcher, &pass, {1}));
  for (int32_t i : {2, 3, 4}) results.push_back(Submit(&batcher, {i, i}));
  results.push_back(Submit(&batcher, {5, 5, 5, 5, 5, 5}));
  results.push_back(Submit(&batcher, {6}));
  pass.Allow(100);
  for (Embedded& result : results) EXPECT_TRUE(result.get().ok());
  EXPECT_THAT(pass.passes(),
              ElementsAre(ElementsAre(1), ElementsAre(2, 3), ElementsAre(4), ElementsAre(5), ElementsAre(6)));
}

TEST(EmbedBatcherTest, QuestionsGoFirstAndOneOtherTextGoesWithThem) {
  HeldPass pass;
  EmbedBatcher batcher({.max_batch_tokens = 3}, pass.AsPass());
  std::vector<Embedded> results;
  results.push_back(SubmitFirst(&batcher, &pass, {1}));
  for (int32_t i : {101, 102, 103}) results.push_back(Submit(&batcher, {i}, Urgency::kBulk));
  for (int32_t i : {2, 3, 4}) results.push_back(Submit(&batcher, {i}));
  pass.Allow(100);
  for (Embedded& result : results) EXPECT_TRUE(result.get().ok());
  EXPECT_THAT(pass.passes(), ElementsAre(ElementsAre(1), ElementsAre(2, 3, 4, 101), ElementsAre(102, 103)));
}

TEST(EmbedBatcherTest, ALongTextOfNoUrgencyGoesWithQuestionsThatFillTheirPasses) {
  HeldPass pass;
  EmbedBatcher batcher({.max_batch_tokens = 4}, pass.AsPass());
  std::vector<Embedded> results;
  results.push_back(SubmitFirst(&batcher, &pass, {1}));
  for (int32_t i : {101, 102}) results.push_back(Submit(&batcher, {i, i, i, i}, Urgency::kBulk));
  for (int32_t i : {2, 3, 4, 5}) results.push_back(Submit(&batcher, {i, i}));
  pass.Allow(100);
  for (Embedded& result : results) EXPECT_TRUE(result.get().ok());
  EXPECT_THAT(pass.passes(), ElementsAre(ElementsAre(1), ElementsAre(2, 3, 101), ElementsAre(4, 5, 102)));
}

TEST(EmbedBatcherTest, AFullQueueAFailedPassAndAStopAreSaid) {
  HeldPass pass;
  EmbedBatcher batcher({.max_queued = 1}, pass.AsPass());
  Embedded running = SubmitFirst(&batcher, &pass, {1});
  Embedded waiting = Submit(&batcher, {2});
  const auto refused = Submit(&batcher, {3}).get();
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("embedding queue is full (1 texts)"));
  pass.Fail(absl::InternalError("the encoder broke"));
  pass.Allow(1);
  EXPECT_EQ(running.get().status().code(), absl::StatusCode::kInternal);
  pass.WaitForPass(2);
  pass.Allow(2);
  EXPECT_EQ(waiting.get().status().code(), absl::StatusCode::kInternal);
  batcher.Stop();
  EXPECT_EQ(Submit(&batcher, {4}).get().status().code(), absl::StatusCode::kUnavailable);
}

TEST(EmbedBatcherTest, AFullQueueOfOneUrgencyKeepsTheOtherFromNothing) {
  for (const auto& [full, free] :
       {std::pair(Urgency::kBulk, Urgency::kRequest), std::pair(Urgency::kRequest, Urgency::kBulk)}) {
    HeldPass pass;
    EmbedBatcher batcher({.max_queued = 2}, pass.AsPass());
    std::vector<Embedded> results;
    results.push_back(SubmitFirst(&batcher, &pass, {1}));
    for (int i = 0; i < 2; ++i) results.push_back(Submit(&batcher, {2}, full));
    EXPECT_EQ(Submit(&batcher, {3}, full).get().status().code(), absl::StatusCode::kResourceExhausted);
    for (int i = 0; i < 2; ++i) results.push_back(Submit(&batcher, {4}, free));
    EXPECT_EQ(Submit(&batcher, {5}, free).get().status().code(), absl::StatusCode::kResourceExhausted);
    pass.Allow(100);
    for (Embedded& result : results) EXPECT_TRUE(result.get().ok());
  }
}

TEST(EmbedBatcherTest, StoppingRefusesWhatWaits) {
  HeldPass pass;
  EmbedBatcher batcher({}, pass.AsPass());
  Embedded running = SubmitFirst(&batcher, &pass, {1});
  Embedded waiting = Submit(&batcher, {2});
  std::thread stop([&] { batcher.Stop(); });
  // Whether Stop has begun or not, the pass under way ends well.
  while (Submit(&batcher, {3}).wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) {
  }
  pass.Allow(1);
  EXPECT_TRUE(running.get().ok());
  EXPECT_EQ(waiting.get().status().code(), absl::StatusCode::kUnavailable);
  stop.join();
}

TEST(EmbedBatcherTest, AsManyPassesRunAtOnceAsTheEncoderTakes) {
  HeldPass pass;
  EmbedBatcher batcher({.max_passes = 3}, pass.AsPass());
  std::vector<Embedded> own(2);
  Embedded bulk = SubmitFirst(&batcher, &pass, {1});
  std::vector<std::thread> callers;
  for (int32_t i = 0; i < 2; ++i) {
    callers.emplace_back([&, i] { own[static_cast<size_t>(i)] = Submit(&batcher, {2}); });
    pass.WaitForPass(static_cast<size_t>(2 + i));  // while those before are held
  }
  // No pass is free: these wait, and go together.
  Embedded waiting = Submit(&batcher, {4}), too = Submit(&batcher, {5});
  pass.Allow(100);
  EXPECT_TRUE(waiting.get().ok() && too.get().ok() && bulk.get().ok());
  for (std::thread& caller : callers) caller.join();
  for (Embedded& one : own) EXPECT_TRUE(one.get().ok());
  EXPECT_THAT(pass.passes(), ElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(2), ElementsAre(4, 5)));
}

TEST(EmbedBatcherTest, TextsThatNobodyGeneratesForLeaveAPassToQuestions) {
  HeldPass pass;
  EmbedBatcher batcher({.max_passes = 2}, pass.AsPass());
  std::vector<Embedded> results;
  results.push_back(SubmitFirst(&batcher, &pass, {1}));
  for (int32_t i : {101, 102}) results.push_back(Submit(&batcher, {i}, Urgency::kBulk));
  std::thread caller([&] { EXPECT_TRUE(Submit(&batcher, {2}).get().ok()); });
  pass.WaitForPass(2);  // the question, at once, though other texts have waited for longer
  pass.Allow(100);
  caller.join();
  for (Embedded& result : results) EXPECT_TRUE(result.get().ok());
  EXPECT_THAT(pass.passes(), ElementsAre(ElementsAre(1), ElementsAre(2), ElementsAre(101, 102)));
}

const std::filesystem::path kTinyBert = std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/data/tiny-bert";

class EncoderEmbedderModeTest : public ::testing::TestWithParam<NumericsMode> {};

INSTANTIATE_TEST_SUITE_P(Modes, EncoderEmbedderModeTest,
                         ::testing::Values(NumericsMode::kExact, NumericsMode::kFast));

TEST_P(EncoderEmbedderModeTest, ManyAtOnceHaveTheBitsOfEachAlone) {
  const auto encoder = Encoder::Load(kTinyBert, {.mode = GetParam(), .n_threads = 1});
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  const auto embedder = LoadEmbedder(kTinyBert, {.mode = GetParam(), .n_threads = 2});
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  EXPECT_EQ((*embedder)->dim(), 32u);
  EXPECT_EQ((*embedder)->digest(), (*encoder)->digest());

  constexpr int kTexts = 400;
  std::vector<std::string> texts;
  for (int i = 0; i < kTexts; ++i) {
    std::string text;
    for (int word = 0; word <= i % 37; ++word) text += (word * 7 + i) % 3 == 0 ? "the " : "question ";
    texts.push_back(std::move(text));
  }
  std::vector<Embedded> results(kTexts);
  std::vector<std::thread> callers;
  constexpr int kCallers = 4;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&, caller] {
      for (int i = caller; i < kTexts; i += kCallers) {
        auto promise = std::make_shared<std::promise<StatusOr<std::vector<float>>>>();
        results[static_cast<size_t>(i)] = promise->get_future();
        (*embedder)->Embed(texts[static_cast<size_t>(i)], i % 5 == 0 ? Urgency::kBulk : Urgency::kRequest,
                           CancelFlag(),
                           [promise](StatusOr<std::vector<float>> e) { promise->set_value(std::move(e)); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (int i = 0; i < kTexts; ++i) {
    const auto got = results[static_cast<size_t>(i)].get();
    ASSERT_TRUE(got.ok()) << got.status();
    const auto alone = (*encoder)->Embed({&texts[static_cast<size_t>(i)], 1});
    ASSERT_TRUE(alone.ok()) << alone.status();
    ASSERT_EQ(*got, (*alone)[0]) << i;
  }
  // In how many passes depends on the machine.
  EXPECT_EQ((*embedder)->work().texts, static_cast<uint64_t>(kTexts));
}

TEST(EncoderEmbedderTest, OfALongQuestionItsEndsAreReadAndOfOtherTextsAll) {
  const auto embedder = LoadEmbedder(kTinyBert, {.max_question_tokens = 8});
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  const auto embed = [&](const std::string& text, Urgency urgency) {
    std::promise<StatusOr<std::vector<float>>> promise;
    (*embedder)->Embed(text, urgency, CancelFlag(),
                       [&](StatusOr<std::vector<float>> e) { promise.set_value(std::move(e)); });
    return promise.get_future().get().value();
  };
  // Six words and what the tokenizer puts around them.
  const std::string six = "the the the a a a", more = "the the the question question a a a";
  EXPECT_EQ(embed(six, Urgency::kRequest), embed(more, Urgency::kRequest));
  EXPECT_EQ(embed(six, Urgency::kRequest), embed(six, Urgency::kBulk));
  EXPECT_NE(embed(six, Urgency::kBulk), embed(more, Urgency::kBulk));
}

TEST(EncoderEmbedderTest, ATextBeyondTheLimitIsRefusedWithoutAPass) {
  const auto embedder = LoadEmbedder(kTinyBert, {});
  ASSERT_TRUE(embedder.ok()) << embedder.status();
  std::promise<StatusOr<std::vector<float>>> promise;
  (*embedder)->Embed(std::string((1 << 20) + 1, 'x'), Urgency::kRequest, CancelFlag(),
                     [&](StatusOr<std::vector<float>> e) { promise.set_value(std::move(e)); });
  const auto refused = promise.get_future().get();
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*embedder)->work().passes, 0u);
}

}  // namespace
}  // namespace coterie::gateway::testing
