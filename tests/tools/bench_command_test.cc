#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"
#include "tools/coterie/bench_report.h"
#include "tools/coterie/load_plan.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

TEST(BenchCommandTest, MeasuresEveryRequestButTheWarmUpAndReportsJson) {
  FakeGateway gateway;
  const CommandOutcome outcome =
      RunCommand({"bench", "--gateway=" + gateway.address(), "--requests=12", "--warmup=3", "--concurrency=4",
                  "--prompt-words=5", "--output-tokens=9", "--experts=a,b,base", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto report = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(report["ok"], 12);
  EXPECT_EQ(report["completion_tokens"], 24);
  EXPECT_EQ(report["prompt_tokens"], 120);
  EXPECT_EQ(report["experts"], nlohmann::json({{"a", 4}, {"b", 4}, {"base", 4}}));
  EXPECT_GT(report["first_token_seconds"]["p50"].get<double>(), 0);
  EXPECT_LE(report["first_token_seconds"]["p50"].get<double>(),
            report["first_token_seconds"]["p99"].get<double>());
  EXPECT_GT(report["completion_tokens_per_second"].get<double>(), 0);
  EXPECT_DOUBLE_EQ(report["routing_seconds"]["p50"].get<double>(), 0.003);

  const auto requests = gateway.requests();
  ASSERT_EQ(requests.size(), 15u);
  std::set<std::string> prompts;
  for (const v1::GenerateRequest& request : requests) {
    prompts.insert(request.chat().messages(0).content());
    EXPECT_EQ(request.sampling().max_tokens(), 9u);
    EXPECT_TRUE(request.sampling().ignore_eos());
  }
  EXPECT_EQ(prompts.size(), 15u) << "equal prompts would measure the prefix cache";
}

TEST(BenchCommandTest, FailuresAreCountedByTheirWordsAndFailTheRun) {
  FakeGateway gateway;
  gateway.FailWith({grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"});
  const CommandOutcome outcome =
      RunCommand({"bench", "--gateway=" + gateway.address(), "--requests=3", "--warmup=0", "--json"});
  EXPECT_EQ(outcome.exit_code, 1);
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["errors"]["RESOURCE_EXHAUSTED: the queue is full"], 3);
}

TEST(BenchCommandTest, NobodyThereIsSaidOnce) {
  const CommandOutcome outcome = RunCommand({"bench", "--gateway=127.0.0.1:1", "--connect-timeout=100ms"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("127.0.0.1:1"));
}

// The prompts a run sends, in order: with one request in flight they arrive as planned.
std::vector<std::string> PromptsOfRun(const std::string& seed) {
  FakeGateway gateway;
  const CommandOutcome outcome =
      RunCommand({"bench", "--gateway=" + gateway.address(), "--requests=20", "--warmup=0", "--concurrency=1",
                  "--prompt-words=lognormal:20:1", "--experts=a,b,c", "--choice=zipf", "--seed=" + seed});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  std::vector<std::string> prompts;
  for (const v1::GenerateRequest& request : gateway.requests())
    prompts.push_back(request.expert() + ": " + request.chat().messages(0).content());
  return prompts;
}

TEST(BenchCommandTest, TheSeedDecidesExpertsLengthsAndTexts) {
  const std::vector<std::string> first = PromptsOfRun("7");
  EXPECT_EQ(first, PromptsOfRun("7"));
  EXPECT_NE(first, PromptsOfRun("8"));
}

TEST(BenchCommandTest, AnOpenLoopCountsFromTheMomentARequestWasMeantToStart) {
  FakeGateway gateway;
  gateway.DelayBy(absl::Milliseconds(50));
  // One every 10 ms, each answered in 50 ms, one at a time: the i-th is sent 40 i ms late.
  const CommandOutcome outcome =
      RunCommand({"bench", "--gateway=" + gateway.address(), "--requests=10", "--warmup=0", "--rate=100",
                  "--arrivals=even", "--max-running=1", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const auto report = nlohmann::json::parse(outcome.out);
  EXPECT_EQ(report["loop"], "open");
  EXPECT_EQ(report["offered_requests_per_second"], 100);
  // The server needs 10 x 50 ms and the last was meant to start after 90 ms.
  EXPECT_GE(report["wall_seconds"].get<double>(), 0.5);
  EXPECT_GE(report["first_token_seconds"]["max"].get<double>(), 0.41);
  EXPECT_GE(report["total_seconds"]["max"].get<double>(), 0.41);
  EXPECT_GE(report["late_start_seconds"]["max"].get<double>(), 0.36);
}

TEST(BenchCommandTest, AnOpenLoopDoesNotWaitForAnswers) {
  FakeGateway gateway;
  gateway.DelayBy(absl::Milliseconds(300));
  const CommandOutcome outcome = RunCommand(
      {"bench", "--gateway=" + gateway.address(), "--requests=6", "--warmup=0", "--rate=1000", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(nlohmann::json::parse(outcome.out)["ok"], 6);
  EXPECT_GT(gateway.most_running(), 1);
}

TEST(BenchCommandTest, GoodputCountsWhatKeepsTheStatedLimits) {
  FakeGateway gateway;
  gateway.DelayBy(absl::Milliseconds(30));
  const auto goodput = [&](const std::string& limit) {
    const CommandOutcome outcome = RunCommand(
        {"bench", "--gateway=" + gateway.address(), "--requests=4", "--warmup=0", limit, "--json"});
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    return nlohmann::json::parse(outcome.out)["goodput"];
  };
  const nlohmann::json none = goodput("--limit-first-token=20ms");
  EXPECT_EQ(none["ok"], 0);
  EXPECT_EQ(none["limits"]["first_token_seconds"], 0.02);
  EXPECT_TRUE(none["limits"]["total_seconds"].is_null());
  const nlohmann::json all = goodput("--limit-total=25s");
  EXPECT_EQ(all["ok"], 4);
  EXPECT_EQ(all["share_of_requests"], 1);
  EXPECT_GT(all["completion_tokens_per_second"].get<double>(), 0);
}

TEST(BenchCommandTest, ReportsEachExpertAndWritesEverySample) {
  FakeGateway gateway;
  const std::filesystem::path samples =
      std::filesystem::path(::testing::TempDir()) / ("samples-" + std::to_string(::getpid()));
  const CommandOutcome outcome =
      RunCommand({"bench", "--gateway=" + gateway.address(), "--requests=6", "--warmup=1", "--experts=a,base",
                  "--samples=" + samples.string(), "--progress", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("6 of 6 answers"));
  const auto report = nlohmann::json::parse(outcome.out);
  for (const char* name : {"a", "base"}) {
    EXPECT_EQ(report["by_expert"][name]["ok"], 3) << name;
    EXPECT_GT(report["by_expert"][name]["first_token_seconds"]["p90"].get<double>(), 0) << name;
  }
  std::ifstream file(samples);
  int n = 0;
  for (std::string line; std::getline(file, line); ++n) {
    const auto sample = nlohmann::json::parse(line);
    EXPECT_EQ(sample["status"], "OK");
    EXPECT_EQ(sample["completion_tokens"], 2);
    EXPECT_GE(sample["total_seconds"].get<double>(), sample["first_token_seconds"].get<double>());
  }
  EXPECT_EQ(n, 6);
  std::filesystem::remove(samples);
}

TEST(BenchCommandTest, RefusesALoadThatMakesNoSense) {
  const auto refused = [](const std::string& flag, const std::string& other = "--json") {
    const CommandOutcome outcome = RunCommand({"bench", "--gateway=127.0.0.1:1", flag, other});
    EXPECT_EQ(outcome.exit_code, 2) << flag;
    return outcome.err;
  };
  EXPECT_THAT(refused("--prompt-words=0"), HasSubstr("--prompt-words=0"));
  EXPECT_THAT(refused("--output-tokens=gauss:5"), HasSubstr("lognormal:MEDIAN:SIGMA"));
  EXPECT_THAT(refused("--rate=5", "--concurrency=3"), HasSubstr("--max-running"));
  EXPECT_THAT(refused("--arrivals=even"), HasSubstr("--rate"));
  EXPECT_THAT(refused("--all-experts", "--experts=a"), HasSubstr("exclude"));
}

TEST(PercentilesTest, AreByNearestRank) {
  std::vector<double> values;
  for (int i = 100; i >= 1; --i) values.push_back(i);
  const auto p = command::Percentiles::Of(values);
  EXPECT_EQ(p.p50, 50);
  EXPECT_EQ(p.p90, 90);
  EXPECT_EQ(p.p99, 99);
  EXPECT_EQ(p.max, 100);
  EXPECT_NEAR(p.mean, 50.5, 1e-9);
  EXPECT_EQ(command::Percentiles::Of({3}).p50, 3);
  EXPECT_EQ(command::Percentiles::Of({}).max, 0);
}

}  // namespace
}  // namespace coterie
