#include <nlohmann/json.hpp>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"
#include "tools/coterie/load.h"

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
