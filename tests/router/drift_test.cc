#include "router/drift.h"

#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/running_moments.h"

namespace coterie {
namespace {

constexpr RoutingReference kReference = {.mean_score = 0.6, .std_score = 0.1, .n = 400};

// n scores that alternate around `mean` by 0.1.
DecayingMoments Scores(int n, double mean, double half_life = 200) {
  DecayingMoments scores(half_life);
  for (int i = 0; i < n; ++i) scores.Add(mean + (i % 2 == 0 ? 0.1 : -0.1));
  return scores;
}

TEST(DecayingMomentsTest, WithoutDecayTheyAreTheOrdinaryOnes) {
  DecayingMoments decaying(1e12);
  RunningMoments ordinary;
  for (const double x : {0.3, 0.9, 0.2, 0.5, 0.7}) {
    decaying.Add(x);
    ordinary.Add(x);
  }
  EXPECT_EQ(decaying.n(), 5u);
  EXPECT_NEAR(decaying.mean(), ordinary.mean(), 1e-9);
  EXPECT_NEAR(decaying.variance(), ordinary.variance(), 1e-9);
  EXPECT_NEAR(decaying.standard_error(), ordinary.standard_error(), 1e-9);
}

TEST(DecayingMomentsTest, AfterAHalfLifeWhatWasCountsHalf) {
  DecayingMoments scores(10);
  for (int i = 0; i < 1000; ++i) scores.Add(1);
  for (int i = 0; i < 10; ++i) scores.Add(0);
  EXPECT_NEAR(scores.mean(), 0.5, 1e-9);
  for (int i = 0; i < 1000; ++i) scores.Add(0);
  EXPECT_NEAR(scores.mean(), 0, 1e-9);
  EXPECT_EQ(scores.n(), 2010u);
  // (1 + d) / (1 - d) with d = 2^(-1/10): what many decayed numbers are worth.
  const double d = std::exp2(-0.1);
  EXPECT_NEAR(scores.effective_n(), (1 + d) / (1 - d), 1e-6);
}

TEST(DecayingMomentsTest, OfNoneOrOneNothingIsClaimed) {
  DecayingMoments scores(10);
  EXPECT_EQ(scores.mean(), 0);
  EXPECT_EQ(scores.standard_error(), 0);
  scores.Add(0.5);
  EXPECT_EQ(scores.mean(), 0.5);
  EXPECT_EQ(scores.variance(), 0);
}

TEST(DriftTest, ALowerMeanIsDriftOnceItIsCertainAndMatters) {
  const auto significant = [](const DecayingMoments& scores, const RoutingReference& reference) {
    return CompareWithReference(scores, reference, {}).significant;
  };
  EXPECT_TRUE(significant(Scores(60, 0.4), kReference));
  EXPECT_FALSE(significant(Scores(48, 0.4), kReference));    // too few
  EXPECT_FALSE(significant(Scores(600, 0.56), kReference));  // certain, within the margin
  EXPECT_FALSE(significant(Scores(60, 0.8), kReference));    // nearer than what it was made for
  // A reference from a handful of texts is itself uncertain.
  EXPECT_FALSE(significant(Scores(60, 0.5), {.mean_score = 0.6, .std_score = 0.1, .n = 5}));
  // And one text has no spread of its own, or says so.
  EXPECT_FALSE(significant(Scores(60, 0.4), {.mean_score = 0.6, .std_score = 0, .n = 1}));
  EXPECT_EQ(CompareWithReference(DecayingMoments(10), kReference, {}).n, 0u);
}

TEST(DriftTest, OldQuestionsDoNotHideThatTheFieldWasLeft) {
  DecayingMoments scores = Scores(10'000, 0.6);
  EXPECT_FALSE(CompareWithReference(scores, kReference, {}).significant);
  for (int i = 0; i < 400; ++i) scores.Add(i % 2 == 0 ? 0.5 : 0.3);
  EXPECT_TRUE(CompareWithReference(scores, kReference, {}).significant);
}

TEST(DriftTest, TheFindingHasTheFigures) {
  const Drift drift = CompareWithReference(Scores(60, 0.4), kReference, {});
  const std::string finding = DriftFinding("postgres", drift, kReference);
  EXPECT_EQ(
      finding.rfind("expert postgres: the questions routed to it have left the field it was made for: their "
                    "mean score is 0.40 (60 seen), that of its own texts 0.60 (400 measured), 0.20 lower "
                    "with a standard error of 0.01",
                    0),
      0u)
      << finding;
  EXPECT_EQ(DriftFinding("postgres", CompareWithReference(Scores(60, 0.6), kReference, {}), kReference), "");
}

}  // namespace
}  // namespace coterie
