#include "router/regret.h"

#include <cmath>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(RunningMomentsTest, AgreesWithTheTextbook) {
  RunningMoments moments;
  EXPECT_EQ(moments.mean(), 0);
  EXPECT_EQ(moments.standard_error(), 0);
  for (const double x : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) moments.Add(x);
  EXPECT_EQ(moments.n(), 8u);
  EXPECT_DOUBLE_EQ(moments.mean(), 5);
  EXPECT_DOUBLE_EQ(moments.variance(), 32.0 / 7);
  EXPECT_DOUBLE_EQ(moments.standard_error(), std::sqrt(32.0 / 7 / 8));
}

TEST(ExpertRegretTest, RegretIsWhatHindsightWouldHaveSaved) {
  ExpertRegret regret;
  EXPECT_TRUE(regret.Add({.chosen = 3.0, .runner_up = 2.5, .base = 2.8}));   // 0.5
  EXPECT_TRUE(regret.Add({.chosen = 2.0, .runner_up = 2.5, .base = 2.25}));  // 0: the choice was right
  EXPECT_TRUE(regret.Add({.chosen = 3.0, .base = 2.75}));                    // 0.25, without a runner-up
  EXPECT_EQ(regret.n(), 3u);
  EXPECT_DOUBLE_EQ(regret.regret().mean(), 0.25);
  EXPECT_EQ(regret.runner_up().n(), 2u);
  EXPECT_DOUBLE_EQ(regret.runner_up().mean(), 2.5);
  EXPECT_DOUBLE_EQ(regret.chosen_minus_runner_up().mean(), 0);
  EXPECT_NEAR(regret.chosen_minus_base().mean(), (0.2 - 0.25 + 0.25) / 3, 1e-12);
  EXPECT_EQ(regret.canary_minus_chosen().n(), 0u);
}

TEST(ExpertRegretTest, ALossThatIsNoNumberTeachesNothing) {
  ExpertRegret regret;
  EXPECT_FALSE(regret.Add({.chosen = std::nan(""), .base = 1}));
  EXPECT_FALSE(regret.Add({.chosen = 1, .base = std::numeric_limits<double>::infinity()}));
  EXPECT_FALSE(regret.Add({.chosen = 1, .base = 1, .canary = std::nan("")}));
  EXPECT_EQ(regret.n(), 0u);
}

// n prompts whose differences alternate around `difference` by 0.1.
ExpertRegret Prompts(int n, double chosen_minus_base, double canary_minus_chosen = 0) {
  ExpertRegret regret;
  for (int i = 0; i < n; ++i) {
    const double wiggle = i % 2 == 0 ? 0.1 : -0.1;
    EXPECT_TRUE(regret.Add({.chosen = 3,
                            .runner_up = 3.5 + wiggle,
                            .base = 3 - chosen_minus_base - wiggle,
                            .canary = 3 + canary_minus_chosen + wiggle}));
  }
  return regret;
}

TEST(RegretFindingTest, ABetterBaseIsFoundOnceThereAreEnoughPromptsAndTheDifferenceMatters) {
  EXPECT_EQ(RegretFinding("postgres", Prompts(64, 0.2)),
            "expert postgres: the base does better on the questions routed to it, by 0.200 nats per token "
            "(standard error 0.013, 64 prompts)");
  EXPECT_EQ(RegretFinding("postgres", Prompts(28, 0.2)), "");     // too few
  EXPECT_EQ(RegretFinding("postgres", Prompts(64, 0.03)), "");    // within three standard errors
  EXPECT_EQ(RegretFinding("postgres", Prompts(4000, 0.01)), "");  // certain, and too small to matter
  EXPECT_EQ(RegretFinding("postgres", Prompts(64, -0.2)), "");    // the expert does better
}

// The least of several noisy losses lies below their means: regret alone must raise no finding.
TEST(RegretFindingTest, EquallyGoodChoicesRaiseNothingThoughTheirRegretIsPositive) {
  const ExpertRegret regret = Prompts(1000, 0);
  EXPECT_GT(regret.regret().mean(), 3 * regret.regret().standard_error());
  EXPECT_EQ(RegretFinding("postgres", regret), "");
}

TEST(RegretFindingTest, ACanaryIsComparedBothWays) {
  EXPECT_THAT(RegretFinding("postgres", Prompts(64, 0, -0.1)),
              AllOf(HasSubstr("its canary does better than its live version, by 0.100 nats per token"),
                    Not(HasSubstr("base"))));
  EXPECT_THAT(RegretFinding("postgres", Prompts(64, 0.2, 0.1)),
              AllOf(HasSubstr("the base does better"), HasSubstr("; its canary does worse")));
  ExpertRegret forgotten = Prompts(64, 0, -0.1);
  forgotten.ForgetCanary();
  EXPECT_EQ(RegretFinding("postgres", forgotten), "");
  EXPECT_EQ(forgotten.n(), 64u);
}

}  // namespace
}  // namespace coterie
