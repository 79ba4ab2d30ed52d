#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"
#include "tools/coterie/conversation.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

std::vector<std::string> Contents(const v1::GenerateRequest& request) {
  std::vector<std::string> contents;
  for (const v1::ChatMessage& message : request.chat().messages()) {
    contents.push_back(message.role() + "=" + message.content());
  }
  return contents;
}

TEST(ChatCommandTest, EachQuestionCarriesWhatWasSaidBefore) {
  FakeGateway gateway;
  const CommandOutcome outcome =
      RunCommand({"chat", "--gateway=" + gateway.address(), "--system=be kind"},
                 "one\n\n  two  \n/expert rust\n/system\nthree\n/new\nfour\n/quit\nfive\n");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "auto: one\nauto: two\nrust: three\nrust: four\n");
  const auto requests = gateway.requests();
  ASSERT_EQ(requests.size(), 4u);
  EXPECT_THAT(Contents(requests[1]),
              testing::ElementsAre("system=be kind", "user=one", "assistant=auto: one", "user=two"));
  EXPECT_THAT(Contents(requests[2]), testing::ElementsAre("user=one", "assistant=auto: one", "user=two",
                                                          "assistant=auto: two", "user=three"));
  EXPECT_EQ(requests[2].expert(), "rust");
  EXPECT_THAT(Contents(requests[3]), testing::ElementsAre("user=four"));
}

TEST(ChatCommandTest, AScriptEndsWithTheFirstFailure) {
  FakeGateway gateway;
  gateway.FailWith({grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"});
  const CommandOutcome outcome = RunCommand({"chat", "--gateway=" + gateway.address()}, "one\ntwo\n");
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_THAT(outcome.err, HasSubstr("the queue is full"));
  EXPECT_EQ(gateway.requests().size(), 1u);
}

TEST(ChatCommandTest, CtrlCCancelsTheAnswerAtTheServer) {
  FakeGateway gateway;
  const CommandOutcome outcome =
      RunAndInterrupt({"chat", "--gateway=" + gateway.address()}, "never ends\n", "never ends");
  EXPECT_EQ(outcome.exit_code, 130);
  // The server hears of it a moment later.
  for (int i = 0; i < 1000 && gateway.cancelled() == 0; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(gateway.cancelled(), 1);
}

TEST(ChatCommandTest, RawPromptsAreRefusedWithTheReason) {
  const CommandOutcome outcome = RunCommand({"chat", "--raw"});
  EXPECT_EQ(outcome.exit_code, 2);
  EXPECT_THAT(outcome.err, HasSubstr("needs the chat template"));
}

TEST(ConversationTest, ForgetsTheOldestTurnsBeyondItsBytes) {
  command::Conversation conversation;
  for (int i = 0; i < 10; ++i) conversation.Remember(std::to_string(i), std::string(60'000, 'x'));
  EXPECT_EQ(conversation.n_turns(), 4u);
  EXPECT_EQ(Contents(conversation.Ask({}, "q"))[0], "user=6");
  conversation.Remember("huge", std::string(1'000'000, 'x'));
  EXPECT_EQ(conversation.n_turns(), 1u);
}

}  // namespace
}  // namespace coterie
