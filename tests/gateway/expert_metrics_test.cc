#include "gateway/core/expert_metrics.h"

#include <set>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// The experts that a page names.
std::set<std::string> ExpertsOf(const std::string& page) {
  std::set<std::string> names;
  const std::string label = "expert=\"";
  for (size_t at = page.find(label); at != std::string::npos; at = page.find(label, at)) {
    at += label.size();
    names.insert(page.substr(at, page.find('"', at) - at));
  }
  return names;
}

TEST(ExpertMetricsTest, AThousandExpertsHaveBoundedSeriesAndTheBusyOnesTheirOwn) {
  MetricsRegistry registry;
  ExpertMetrics metrics(&registry);
  for (int i = 0; i < 1000; ++i) {
    const std::string expert = "expert-" + std::to_string(i);
    metrics.CountRoute(expert, 0.5, /*abstained=*/i % 2 == 0);
    metrics.CountAnswer(expert, /*canary=*/false);
  }
  EXPECT_EQ(ExpertsOf(registry.Text()).size(), ExpertMetrics::kMaxExperts + 1);
  for (int i = 0; i < 30; ++i) metrics.CountAnswer("late", /*canary=*/true);
  metrics.ObserveFirstToken("late", absl::Milliseconds(20));
  metrics.CountTokens("late", 7);
  const std::string page = registry.Text();
  EXPECT_EQ(ExpertsOf(page).size(), ExpertMetrics::kMaxExperts + 1);
  EXPECT_THAT(metrics.Named(), ::testing::Contains("late"));
  EXPECT_THAT(page, HasSubstr("coterie_expert_tokens_total{expert=\"late\"} 7\n"));
  EXPECT_THAT(page, HasSubstr("coterie_expert_time_to_first_token_seconds_count{expert=\"late\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("coterie_expert_score_ratio_count{expert=\"other\"}"));
}

TEST(ExpertMetricsTest, WhoLosesItsPlaceLosesAllOfItsSeries) {
  MetricsRegistry registry;
  ExpertMetrics metrics(&registry);
  metrics.CountRoute("early", 0.9, /*abstained=*/true);
  for (size_t i = 1; i < ExpertMetrics::kMaxExperts; ++i) {
    for (int n = 0; n < 5; ++n) metrics.CountAnswer("steady-" + std::to_string(i), false);
  }
  EXPECT_THAT(registry.Text(), HasSubstr("expert=\"early\""));
  for (int n = 0; n < 20; ++n) metrics.CountAnswer("newcomer", false);
  EXPECT_THAT(registry.Text(), Not(HasSubstr("expert=\"early\"")));
  metrics.CountFallback("early");
  EXPECT_THAT(registry.Text(), HasSubstr("coterie_expert_fallbacks_total{expert=\"other\"} 1\n"));
}

}  // namespace
}  // namespace coterie::gateway
