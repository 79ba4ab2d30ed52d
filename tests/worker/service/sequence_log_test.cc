// What a worker keeps of answers, and for how long.
#include "worker/service/sequence_log.h"

#include "common/clock.h"
#include "gtest/gtest.h"
#include "worker/service/gateway_session.h"

namespace coterie::worker {
namespace {

OutputEvent Event(OutputEvent::Kind kind, uint32_t position) {
  OutputEvent event;
  event.kind = kind;
  event.position = position;
  event.token = 7;
  event.first = position == 0;
  event.cached_prompt_tokens = 9;
  if (kind == OutputEvent::Kind::kFinish) event.finish = FinishReason::kStop;
  return event;
}

std::unique_ptr<SequenceLog> FinishedLog(uint64_t id, size_t n_prompt, size_t n_tokens, size_t n_top,
                                         MonotonicTime now) {
  auto log = std::make_unique<SequenceLog>(id, id + 1000, 0, n_prompt > 0, now);
  const std::vector<TokenLogprob> scored(1 + n_top);
  for (size_t i = 0; i < n_prompt; ++i) {
    log->Add(Event(OutputEvent::Kind::kPromptLogprob, static_cast<uint32_t>(i)), scored, now);
  }
  for (size_t i = 0; i < n_tokens; ++i) {
    log->Add(Event(OutputEvent::Kind::kToken, static_cast<uint32_t>(i)), scored, now);
  }
  log->Add(Event(OutputEvent::Kind::kFinish, static_cast<uint32_t>(n_tokens)), {}, now);
  return log;
}

TEST(SequenceLogTest, LogprobsOfThePromptAreLetGoOnceTheyAreSent) {
  const auto log = FinishedLog(1, 8000, 0, 20, MonotonicTime::Epoch());
  EXPECT_GT(log->bytes(), 8000u * 21 * sizeof(TokenLogprob));
  size_t n_sent = 0;
  for (int message = 0; log->pending(); ++message) {
    ASSERT_LT(message, 100);
    size_t budget = 5000;  // a message's share, again and again
    v1::SequenceOutput out;
    log->Take(&out, &budget);
    n_sent += static_cast<size_t>(out.prompt_logprobs_size());
    EXPECT_EQ(out.cached_prompt_tokens(), message == 0 ? 9u : 0u) << "told once";
    EXPECT_EQ(out.finish() != v1::FINISH_REASON_UNSPECIFIED, !log->pending());
  }
  EXPECT_EQ(n_sent, 8000u);
  EXPECT_LT(log->bytes(), 2000u);
  EXPECT_FALSE(log->Rewind(0)) << "they cannot be sent again";
}

TEST(SequenceLogTest, TheAnswerCanBeSentAgainFromAnyPosition) {
  const auto log = FinishedLog(1, 0, 10, 2, MonotonicTime::Epoch());
  for (const uint32_t from : {0u, 4u, 10u}) {
    ASSERT_TRUE(log->Rewind(from));
    size_t budget = 1000;
    v1::SequenceOutput out;
    log->Take(&out, &budget);
    EXPECT_EQ(out.token_ids_size(), static_cast<int>(10 - from));
    EXPECT_EQ(out.logprobs_size(), out.token_ids_size());
    EXPECT_EQ(out.finish(), v1::FINISH_REASON_STOP);
  }
}

TEST(SequenceLogTest, AnErrorIsUtf8WhateverBytesItQuotes) {
  const Status error = absl::InvalidArgumentError("tensor \"\xff\xfe\" is no weight");
  SequenceLog log(1, 2, 0, false, MonotonicTime::Epoch());
  OutputEvent end = Event(OutputEvent::Kind::kFinish, 0);
  end.finish = FinishReason::kError;
  end.status = error;
  log.Add(end, {}, MonotonicTime::Epoch());
  size_t budget = 10;
  v1::SequenceOutput out;
  log.Take(&out, &budget);
  EXPECT_EQ(out.error_message(), "tensor \"\xEF\xBF\xBD\xEF\xBF\xBD\" is no weight");
  GatewaySession session("g");
  session.Refuse(1, error);
  v1::Step step;
  session.TakeOutput(&step);
  EXPECT_EQ(step.outputs(0).error_message(), out.error_message());
}

TEST(GatewaySessionTest, EndedAnswersAreBoundedByTheirMemoryToo) {
  GatewaySession session("g");
  size_t n_bytes = 0;
  for (uint64_t id = 0; id < 60; ++id) {
    SequenceLog* log = session.Insert(
        FinishedLog(id, 0, 4000, 20, MonotonicTime::Epoch() + absl::Seconds(static_cast<int64_t>(id))));
    session.Touch(log);
    n_bytes += log->bytes();
  }
  ASSERT_GT(n_bytes, size_t{32} << 20);
  std::vector<uint64_t> dropped;
  session.DropFinished(MonotonicTime::InfinitePast(), &dropped);
  EXPECT_TRUE(dropped.empty()) << "what was not sent is never dropped";
  while (session.has_output()) {
    v1::Step step;
    session.TakeOutput(&step);
  }
  session.DropFinished(MonotonicTime::InfinitePast(), &dropped);
  ASSERT_FALSE(dropped.empty());
  n_bytes = 0;
  for (const auto& [id, log] : session.sequences()) n_bytes += log->bytes();
  EXPECT_LE(n_bytes, size_t{16} << 20);
  EXPECT_GT(n_bytes, size_t{12} << 20) << "and no more than that is dropped";
  for (uint64_t engine_id : dropped) EXPECT_LT(engine_id, 1000 + dropped.size()) << "the oldest";
}

}  // namespace
}  // namespace coterie::worker
