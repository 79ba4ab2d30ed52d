#include "gateway/upstream/link_sequences.h"

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
  request.credit = credit;
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
