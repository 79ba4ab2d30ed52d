#include "router/regret.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "absl/strings/str_join.h"
#include "common/status.h"

namespace coterie {
namespace {

// "0.031 nats per token (standard error 0.004, 64 prompts)"
std::string Figures(const RunningMoments& difference) {
  char text[96];
  std::snprintf(text, sizeof(text), "%.3f nats per token (standard error %.3f, %llu prompts)",
                std::abs(difference.mean()), difference.standard_error(),
                static_cast<unsigned long long>(difference.n()));
  return text;
}

bool Significant(double mean, const RunningMoments& difference, const SignificanceOptions& options) {
  return difference.n() >= options.min_prompts && mean > options.min_nats &&
         mean > options.standard_errors * difference.standard_error();
}

}  // namespace

bool ExpertRegret::Add(const ShadowLosses& losses) {
  double least = std::min(losses.chosen, losses.base);
  if (losses.runner_up) least = std::min(least, *losses.runner_up);
  if (!std::isfinite(losses.chosen + losses.base + losses.runner_up.value_or(0) +
                     losses.canary.value_or(0))) {
    return false;
  }
  chosen_.Add(losses.chosen);
  base_.Add(losses.base);
  regret_.Add(losses.chosen - least);
  chosen_minus_base_.Add(losses.chosen - losses.base);
  if (losses.runner_up) {
    runner_up_.Add(*losses.runner_up);
    chosen_minus_runner_up_.Add(losses.chosen - *losses.runner_up);
  }
  if (losses.canary) canary_minus_chosen_.Add(*losses.canary - losses.chosen);
  return true;
}

bool SignificantlyPositive(const RunningMoments& difference, const SignificanceOptions& options) {
  return Significant(difference.mean(), difference, options);
}

std::string RegretFinding(std::string_view expert, const ExpertRegret& regret,
                          const SignificanceOptions& options) {
  std::vector<std::string> parts;
  if (SignificantlyPositive(regret.chosen_minus_base(), options)) {
    parts.push_back(absl::StrCat("the base does better on the questions routed to it, by ",
                                 Figures(regret.chosen_minus_base())));
  }
  if (SignificantlyPositive(regret.chosen_minus_runner_up(), options)) {
    parts.push_back(absl::StrCat("the runner-up does better on the questions routed to it, by ",
                                 Figures(regret.chosen_minus_runner_up())));
  }
  const RunningMoments& canary = regret.canary_minus_chosen();
  if (Significant(std::abs(canary.mean()), canary, options)) {
    parts.push_back(absl::StrCat("its canary does ", canary.mean() < 0 ? "better" : "worse",
                                 " than its live version, by ", Figures(canary)));
  }
  if (parts.empty()) return "";
  return absl::StrCat("expert ", ToAbsl(expert), ": ", absl::StrJoin(parts, "; "));
}

}  // namespace coterie
