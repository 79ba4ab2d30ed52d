#include "gateway/upstream/link_sequences.h"

#include <map>
#include <random>

#include "coterie/v1/worker.pb.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

class SilentObserver final : public SequenceObserver {
 public:
  void OnOutput(SequenceOutput) override {}
  void OnWorkerSuspect(uint64_t) override {}
  void OnReattached(uint64_t) override {}
  void OnWorkerLost(uint64_t, const WorkerLoss&) override {}
};

SequenceRequest WithCredit(uint32_t credit, size_t n_resumed = 0) {
  SequenceRequest request;
  request.initial_credit = credit;
  request.resume_ids.assign(n_resumed, 7);
  return request;
}

SequenceOutput TokensOf(uint64_t id, uint32_t position, size_t n) {
  SequenceOutput output;
  output.sequence_id = id;
  output.position = position;
  output.token_ids.assign(n, 1);
  return output;
}

TEST(LinkSequencesTest, ASequenceWhoseCreditIsUsedUpIsPausedAndNoPartOfTheQueue) {
  const auto observer = std::make_shared<SilentObserver>();
  LinkSequences sequences;
  sequences.Add(1, WithCredit(4), observer);
  sequences.Add(2, WithCredit(4, 10), observer);
  EXPECT_EQ(sequences.n_active(), 2u);
  EXPECT_EQ(sequences.Follow(TokensOf(1, 0, 3)), observer);
  EXPECT_EQ(sequences.n_active(), 2u);
  EXPECT_EQ(sequences.Follow(TokensOf(1, 3, 1)), observer);
  EXPECT_EQ(sequences.Follow(TokensOf(2, 10, 4)), observer);
  EXPECT_EQ(sequences.n_active(), 0u);
  EXPECT_EQ(sequences.size(), 2u);
  EXPECT_TRUE(sequences.Grant(2, 1));
  EXPECT_EQ(sequences.n_active(), 1u);
  EXPECT_FALSE(sequences.Grant(3, 1));
}

// The count is kept beside the entries: whatever comes, it is that of those with credit left.
TEST(LinkSequencesTest, ThoseThatMaySendAreCountedWhateverHappens) {
  std::mt19937 random(5);
  struct Plain {
    uint32_t next = 0, until = 0;
    bool starts_over = false;
  };
  LinkSequences sequences;
  std::map<uint64_t, Plain> expected;
  const auto observer = std::make_shared<SilentObserver>();
  for (int i = 0; i < 5000; ++i) {
    const uint64_t id = random() % 12;
    switch (random() % 12) {
      case 0:
      case 1:
      case 2: {
        SequenceRequest request = WithCredit(random() % 5, random() % 3);
        if (random() % 4 == 0) request.prompt_logprobs_from = 1;
        sequences.Add(id, request, observer);
        const auto position = static_cast<uint32_t>(request.resume_ids.size());
        expected[id] = {position, position + request.initial_credit,
                        request.prompt_logprobs_from.has_value()};
        break;
      }
      case 3:
        EXPECT_EQ(sequences.Remove(id), expected.erase(id) > 0);
        break;
      case 4:
      case 5: {
        const uint32_t tokens = random() % 3;
        EXPECT_EQ(sequences.Grant(id, tokens), expected.contains(id));
        if (expected.contains(id)) expected[id].until += tokens;
        break;
      }
      case 6:
        if (random() % 20 == 0) {
          sequences.TakeAll();
          expected.clear();
        }
        break;
      case 7:
        if (random() % 20 == 0) {
          v1::Reattach message;
          Observed start_over;
          sequences.Reattach(&message, &start_over);
          std::erase_if(expected, [](const auto& entry) { return entry.second.starts_over; });
        }
        break;
      default: {
        const size_t n = random() % 3;
        const uint32_t position = expected.contains(id) ? expected[id].next : 0;
        SequenceOutput output = TokensOf(id, position, n);
        if (random() % 10 == 0) output.finish = FinishReason::kStop;
        EXPECT_EQ(sequences.Follow(output) != nullptr, expected.contains(id));
        if (!expected.contains(id)) break;
        expected[id].next += static_cast<uint32_t>(n);
        if (output.finish != FinishReason::kNone) expected.erase(id);
      }
    }
    const auto n_active = std::count_if(expected.begin(), expected.end(), [](const auto& entry) {
      return entry.second.next < entry.second.until;
    });
    ASSERT_EQ(sequences.n_active(), static_cast<size_t>(n_active));
    ASSERT_EQ(sequences.size(), expected.size());
  }
}

TEST(LinkSequencesTest, AfterABreakEachSaysWhereItStandsAndScoresStartOver) {
  const auto observer = std::make_shared<SilentObserver>();
  LinkSequences sequences;
  sequences.Add(1, WithCredit(8, 2), observer);
  SequenceRequest score = WithCredit(8);
  score.prompt_logprobs_from = 1;
  sequences.Add(2, score, observer);
  sequences.Follow(TokensOf(1, 2, 3));
  v1::Reattach message;
  Observed start_over;
  const Observed reattached = sequences.Reattach(&message, &start_over);
  ASSERT_EQ(reattached.size(), 1u);
  EXPECT_EQ(reattached[0].first, 1u);
  ASSERT_EQ(start_over.size(), 1u);
  EXPECT_EQ(start_over[0].first, 2u);
  ASSERT_EQ(message.sequences_size(), 1);
  EXPECT_EQ(message.sequences(0).next_position(), 5u);
  EXPECT_EQ(message.sequences(0).credit(), 5u);
  EXPECT_EQ(sequences.size(), 1u);
}

TEST(LinkSequencesTest, WhatHasFinishedIsForgotten) {
  LinkSequences sequences;
  sequences.Add(1, WithCredit(8), std::make_shared<SilentObserver>());
  SequenceOutput last = TokensOf(1, 0, 1);
  last.finish = FinishReason::kStop;
  EXPECT_NE(sequences.Follow(last), nullptr);
  EXPECT_EQ(sequences.Follow(last), nullptr);
  EXPECT_EQ(sequences.size(), 0u);
}

}  // namespace
}  // namespace coterie::gateway::testing
