// coterie ask and coterie route, as a person and as a script see them.
#include <fstream>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(AskCommandTest, TheAnswerAloneGoesToTheOutputAndTheRouteBesideIt) {
  FakeGateway gateway;
  const CommandOutcome outcome = RunCommand(
      {"ask", "--gateway=" + gateway.address(), "--expert=rust", "--temperature=0.5", "what", "is", "it?"});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_EQ(outcome.out, "rust: what is it?\n");
  EXPECT_THAT(outcome.err, HasSubstr("rust"));
  EXPECT_THAT(outcome.err, HasSubstr("because"));
  EXPECT_THAT(outcome.err, Not(HasSubstr("\033"))) << "colours belong on terminals only";
  ASSERT_EQ(gateway.requests().size(), 1u);
  EXPECT_FLOAT_EQ(gateway.requests()[0].sampling().temperature(), 0.5F);
}

TEST(AskCommandTest, SeveralExpertsAndTheirWeightsGoIntoTheRequest) {
  FakeGateway gateway;
  const auto ask = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {"ask", "--gateway=" + gateway.address()});
    flags.push_back("hi");
    return RunCommand(flags);
  };
  ASSERT_EQ(ask({"--experts=a:0.6, b@0123456789:0.4"}).exit_code, 0);
  ASSERT_EQ(ask({"--experts=a,b", "--mode=blend"}).exit_code, 0);
  ASSERT_EQ(ask({"--mode=mixture", "--k=3"}).exit_code, 0);
  ASSERT_EQ(ask({"--experts=a:0", "--mode=gated"}).exit_code, 0) << "for the gateway to refuse";
  ASSERT_EQ(ask({}).exit_code, 0);
  const std::vector<v1::GenerateRequest> requests = gateway.requests();
  ASSERT_EQ(requests.size(), 5u);
  const v1::Collaboration& mixture = requests[0].collaboration();
  EXPECT_EQ(mixture.mode(), v1::COLLABORATION_MODE_MIXTURE);
  ASSERT_EQ(mixture.members_size(), 2);
  EXPECT_EQ(mixture.members(0).expert(), "a");
  EXPECT_FLOAT_EQ(mixture.members(0).weight(), 0.6f);
  EXPECT_EQ(mixture.members(1).expert(), "b@0123456789");
  EXPECT_FLOAT_EQ(mixture.members(1).weight(), 0.4f);
  EXPECT_EQ(requests[1].collaboration().mode(), v1::COLLABORATION_MODE_BLEND);
  EXPECT_FALSE(requests[1].collaboration().members(1).has_weight());
  EXPECT_EQ(requests[2].collaboration().k(), 3u);
  EXPECT_EQ(requests[3].collaboration().mode(), v1::COLLABORATION_MODE_GATED);
  EXPECT_TRUE(requests[3].collaboration().members(0).has_weight());
  EXPECT_FALSE(requests[4].has_collaboration());

  const CommandOutcome mode = ask({"--experts=a,b", "--mode=average"});
  EXPECT_EQ(mode.exit_code, 2);
  EXPECT_THAT(mode.err, HasSubstr("--mode is \"average\"; give mixture, blend or gated"));
  ASSERT_EQ(ask({"--experts=a,b,c", "--gate=arrow", "--gate-top-k=2"}).exit_code, 0);
  const v1::Collaboration gated = gateway.requests().back().collaboration();
  EXPECT_EQ(gated.mode(), v1::COLLABORATION_MODE_GATED) << "a gate says so";
  EXPECT_EQ(gated.gate(), v1::GATE_KIND_ARROW);
  EXPECT_EQ(gated.top_k(), 2u);
  const CommandOutcome gate = ask({"--experts=a,b", "--gate=soft"});
  EXPECT_EQ(gate.exit_code, 2);
  EXPECT_THAT(gate.err, HasSubstr("--gate is \"soft\"; give gateless, noisy or arrow"));
  const CommandOutcome weight = ask({"--experts=a:much"});
  EXPECT_EQ(weight.exit_code, 2);
  EXPECT_THAT(weight.err, HasSubstr("--experts: \"a:much\" is not NAME or NAME:WEIGHT"));
  EXPECT_EQ(ask({"--experts=a:0.5:0.5"}).exit_code, 2);
  EXPECT_EQ(gateway.requests().size(), 6u);
}

TEST(AskCommandTest, JsonIsOneObjectAnEvent) {
  FakeGateway gateway;
  const CommandOutcome outcome = RunCommand({"ask", "--gateway=" + gateway.address(), "--json", "hi"});
  std::istringstream lines(outcome.out);
  std::vector<std::string> keys;
  for (std::string line; std::getline(lines, line);)
    keys.push_back(nlohmann::json::parse(line).begin().key());
  EXPECT_THAT(keys, testing::ElementsAre("route", "text", "text", "finish"));
}

TEST(AskCommandTest, CtrlCCancelsTheAnswerAtTheServer) {
  FakeGateway gateway;
  const CommandOutcome outcome =
      RunAndInterrupt({"ask", "--gateway=" + gateway.address(), "never ends"}, "", "never ends");
  EXPECT_EQ(outcome.exit_code, 130);
  for (int i = 0; i < 1000 && gateway.cancelled() == 0; ++i) absl::SleepFor(absl::Milliseconds(10));
  EXPECT_EQ(gateway.cancelled(), 1);
}

TEST(AskCommandTest, EveryKindOfFailureHasItsExitCode) {
  const auto exit_code = [](grpc::StatusCode code) {
    FakeGateway gateway;
    gateway.FailWith({code, "the reason"});
    const CommandOutcome outcome = RunCommand({"ask", "--gateway=" + gateway.address(), "hi"});
    EXPECT_THAT(outcome.err, HasSubstr("the reason"));
    return outcome.exit_code;
  };
  EXPECT_EQ(exit_code(grpc::StatusCode::INTERNAL), 1);
  EXPECT_EQ(exit_code(grpc::StatusCode::UNAVAILABLE), 3);
  EXPECT_EQ(exit_code(grpc::StatusCode::NOT_FOUND), 4);
  EXPECT_EQ(exit_code(grpc::StatusCode::INVALID_ARGUMENT), 4);
  EXPECT_EQ(exit_code(grpc::StatusCode::OUT_OF_RANGE), 4);
  EXPECT_EQ(exit_code(grpc::StatusCode::UNIMPLEMENTED), 4);
  EXPECT_EQ(exit_code(grpc::StatusCode::UNAUTHENTICATED), 4);
  EXPECT_EQ(exit_code(grpc::StatusCode::DATA_LOSS), 1);
  EXPECT_EQ(exit_code(grpc::StatusCode::RESOURCE_EXHAUSTED), 5);
  EXPECT_EQ(exit_code(grpc::StatusCode::DEADLINE_EXCEEDED), 5);
}

TEST(AskCommandTest, AMessageThatIsTooLargeIsRefusedForGood) {
  FakeGateway gateway;  // takes gRPC's default, 4 MiB
  const std::string file = testing::TempDir() + "/large_question.txt";
  std::ofstream(file) << std::string(5 << 20, 'x') << "\n";
  const CommandOutcome outcome = RunCommand({"ask", "--gateway=" + gateway.address(), "--questions=" + file});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("too large"));
  EXPECT_THAT(outcome.err, HasSubstr("4194304"));
}

TEST(AskCommandTest, ManyFailuresOfOneKindHaveItsExitCode) {
  FakeGateway gateway;
  const std::string file = testing::TempDir() + "/refused_questions.txt";
  std::ofstream(file) << "first?\nsecond?\n";
  gateway.FailWith({grpc::StatusCode::NOT_FOUND, "no such expert"});
  EXPECT_EQ(RunCommand({"ask", "--gateway=" + gateway.address(), "--questions=" + file}).exit_code, 4);
  gateway.FailWith({grpc::StatusCode::RESOURCE_EXHAUSTED, "full"});
  EXPECT_EQ(RunCommand({"ask", "--gateway=" + gateway.address(), "--questions=" + file}).exit_code, 5);
}

TEST(AskCommandTest, ManyQuestionsEndWithATable) {
  FakeGateway gateway;
  const std::string file = testing::TempDir() + "/questions.txt";
  std::ofstream(file) << "first?\n# a remark\n\nsecond?\n";
  const CommandOutcome outcome = RunCommand({"ask", "--gateway=" + gateway.address(), "--questions=" + file});
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_THAT(outcome.out, HasSubstr("auto: first?"));
  EXPECT_THAT(outcome.out, HasSubstr("auto: second?"));
  EXPECT_THAT(outcome.out, HasSubstr("tokens/s"));
  EXPECT_EQ(gateway.requests().size(), 2u);
}

TEST(AskCommandTest, AWrongCommandLineIsToldApart) {
  EXPECT_EQ(RunCommand({}).exit_code, 2);
  EXPECT_EQ(RunCommand({"--help"}).exit_code, 0);
  EXPECT_THAT(RunCommand({"aks"}).err, HasSubstr("unknown command \"aks\""));
  EXPECT_EQ(RunCommand({"ask"}).exit_code, 2);
  const CommandOutcome flag = RunCommand({"ask", "--temprature=1", "hi"});
  EXPECT_EQ(flag.exit_code, 2);
  EXPECT_THAT(flag.err, HasSubstr("temperature"));
  for (const char* command : {"ask", "chat", "route", "status", "bench"}) {
    const CommandOutcome help = RunCommand({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr("--gateway")) << command;
  }
}

}  // namespace
}  // namespace coterie
