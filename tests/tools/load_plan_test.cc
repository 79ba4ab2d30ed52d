#include "tools/coterie/load_plan.h"

#include <cmath>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::command {
namespace {

using ::testing::HasSubstr;

TEST(LoadPlanTest, PoissonArrivalsHaveTheRateAndTheSpreadOfAPoissonProcess) {
  const auto plan = MakeLoadPlan({.seed = 3, .n_requests = 20'001, .rate = 50});
  double sum = 0, squares = 0;
  for (size_t i = 1; i < plan.size(); ++i) {
    const double gap = plan[i].start_seconds - plan[i - 1].start_seconds;
    ASSERT_GE(gap, 0);
    sum += gap;
    squares += gap * gap;
  }
  const double n = static_cast<double>(plan.size() - 1), mean = sum / n;
  EXPECT_NEAR(mean, 0.02, 0.0006);  // 1 / rate, within 4 standard errors
  EXPECT_NEAR(std::sqrt(squares / n - mean * mean) / mean, 1,
              0.04);  // an exponential's deviation is its mean
}

TEST(LoadPlanTest, EvenArrivalsAreEquallyFarApartAndWarmUpHasNoTime) {
  const auto plan = MakeLoadPlan({.n_warmup = 2, .n_requests = 3, .rate = 10, .poisson = false});
  ASSERT_EQ(plan.size(), 5u);
  const double starts[] = {0, 0, 0, 0.1, 0.2};
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(plan[i].start_seconds, starts[i], 1e-12) << i;
}

TEST(LoadPlanTest, ZipfAsksTheIthExpertOneOverIToTheS) {
  LoadPlanOptions options{.n_requests = 30'000, .choice = ExpertChoice::kZipf, .zipf_exponent = 1.2};
  options.experts = {"a", "b", "c", "d"};
  std::map<std::string, double> share;
  for (const PlannedRequest& request : MakeLoadPlan(options)) share[request.expert] += 1.0 / 30'000;
  double total = 0;
  for (int i = 1; i <= 4; ++i) total += std::pow(i, -1.2);
  for (int i = 1; i <= 4; ++i)
    EXPECT_NEAR(share[options.experts[static_cast<size_t>(i) - 1]], std::pow(i, -1.2) / total, 0.012) << i;
}

TEST(LoadPlanTest, TurnsBeginWithTheFirstMeasuredRequest) {
  LoadPlanOptions options{.n_warmup = 1, .n_requests = 3};
  options.experts = {"a", "b", "c"};
  const auto plan = MakeLoadPlan(options);
  EXPECT_EQ(plan[1].expert, "a");
  EXPECT_EQ(plan[2].expert, "b");
  EXPECT_EQ(plan[3].expert, "c");
}

TEST(LoadPlanTest, OtherLengthsDoNotMoveArrivalsOrTexts) {
  LoadPlanOptions options{.n_requests = 50, .rate = 5};
  const auto one = MakeLoadPlan(options);
  options.output_tokens = LengthDistribution::Parse("--output-tokens", "10-90", 1000).value();
  const auto other = MakeLoadPlan(options);
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].start_seconds, other[i].start_seconds);
    EXPECT_EQ(one[i].text_seed, other[i].text_seed);
  }
}

double MeanOf(const std::string& text, int most) {
  const auto lengths = LengthDistribution::Parse("--n", text, most);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  LoadRandom random(11);
  double sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    const int drawn = lengths->Draw(&random);
    EXPECT_GE(drawn, 1);
    EXPECT_LE(drawn, most);
    sum += drawn;
  }
  return sum / 20'000;
}

TEST(LengthDistributionTest, DrawsTheNamedDistribution) {
  EXPECT_EQ(MeanOf("7", 100), 7);
  EXPECT_NEAR(MeanOf("50-150", 1000), 100, 1);
  EXPECT_NEAR(MeanOf("exponential:100", 10'000), 100, 3);
  EXPECT_NEAR(MeanOf("lognormal:100:0.5", 10'000), 100 * std::exp(0.125), 2.5);
  EXPECT_LT(MeanOf("exponential:50", 50), 40) << "draws are cut at the most allowed";
}

TEST(LengthDistributionTest, RefusesOtherTextsNamingFlagAndValue) {
  for (const char* text : {"", "0", "5-4", "1-2-3", "1001", "-3", "exponential", "exponential:0.5",
                           "lognormal:5", "lognormal:5:9", "lognormal:nan:1", "uniform:1:2"}) {
    const auto refused = LengthDistribution::Parse("--prompt-words", text, 1000);
    ASSERT_FALSE(refused.ok()) << text;
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("--prompt-words=" + std::string(text)));
  }
}

}  // namespace
}  // namespace coterie::command
