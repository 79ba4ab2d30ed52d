#include "tests/comm/every_step.h"

#include <algorithm>
#include <string>

#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/comm/backends.h"

namespace coterie::comm_testing {
namespace {

constexpr int kHealthyGroups = 8;
constexpr int kGroupsAtOnce = 32;
constexpr absl::Duration kLeastTimeout = absl::Milliseconds(400), kMostTimeout = absl::Seconds(80);
// Beyond a deadline: the machine may be busy, but not for ever.
constexpr absl::Duration kBound = absl::Seconds(60);

// What is wrong with how a trial went; "" where nothing is.
std::string Problem(const LossTrials& trials, const LossTrial& trial) {
  std::string problem;
  for (int rank = 0; rank < trials.n_members; ++rank) {
    const Status& result = trial.results[static_cast<size_t>(rank)];
    const bool is_victim = rank == trials.victim;
    if (result.ok() || (is_victim && trial.reached && !trials.victim_is_judged)) continue;
    const std::string message(result.message());
    bool names_the_lost = false;
    for (int other = 0; other < trials.n_members; ++other) {
      if (is_victim ? other == rank : other != trials.victim) continue;
      names_the_lost = names_the_lost || message.find(absl::StrCat("\"m", other, "\"")) != std::string::npos;
    }
    const bool right_code =
        absl::IsUnavailable(result) || absl::IsDeadlineExceeded(result) || absl::IsCancelled(result);
    if (trial.reached && names_the_lost && right_code) continue;
    absl::StrAppend(&problem, "step ", trial.step, trial.reached ? "" : " (not reached)", ", time-out ",
                    absl::FormatDuration(trial.timeout), ", member ", rank, ": ", result.ToString(), "\n");
  }
  return problem;
}

// Whether it could go otherwise when done again: somebody ran out of time, or met a member of another of the
// groups that run side by side. The port of a member that is lost may be given to one of another group, to
// whom the lost one's group then connects; the group that was meant to finds nobody there.
bool ChanceHadAPart(const LossTrial& trial) {
  return std::any_of(trial.results.begin(), trial.results.end(), [](const Status& result) {
    const auto says = [&](absl::string_view words) {
      return result.message().find(words) != absl::string_view::npos;
    };
    return absl::IsDeadlineExceeded(result) || says(" within ") || says(" in time") ||
           says("does not answer") || says("a message of another group") || says("cannot connect to");
  });
}

void Run(const LossTrials& trials, LossTrial* trial) {
  trial->results.assign(static_cast<size_t>(trials.n_members), absl::OkStatus());
  const MonotonicTime begin = MonotonicNow();
  trials.run(trial);
  EXPECT_LT(MonotonicNow() - begin, 8 * trial->timeout + kBound) << "step " << trial->step;
}

// Of groups without a loss, side by side.
absl::Duration HealthyTime(const LossTrials& trials, int* number) {
  const MonotonicTime begin = MonotonicNow();
  const int first = *number;
  *number += kHealthyGroups;
  OnThreads(kHealthyGroups, [&](int lane) {
    LossTrial trial{.number = first + lane, .timeout = kLong};
    Run(trials, &trial);
    EXPECT_EQ(Problem(trials, trial), "");
  });
  return MonotonicNow() - begin;
}

// Does those again, side by side, that went wrong by chance, with more time each time.
void TryAgain(const LossTrials& trials, std::vector<LossTrial>* at_once, int* number) {
  for (;;) {
    std::vector<LossTrial*> again;
    for (LossTrial& trial : *at_once) {
      if (Problem(trials, trial).empty() || !ChanceHadAPart(trial) || trial.timeout >= kMostTimeout) {
        continue;
      }
      trial = {.step = trial.step, .number = (*number)++, .timeout = 4 * trial.timeout};
      again.push_back(&trial);
    }
    if (again.empty()) return;
    OnThreads(static_cast<int>(again.size()), [&](int i) { Run(trials, again[static_cast<size_t>(i)]); });
  }
}

}  // namespace

void LoseAtEveryStep(const LossTrials& trials) {
  int number = 0;
  const absl::Duration timeout =
      std::clamp(8 * HealthyTime(trials, &number), kLeastTimeout, kMostTimeout / 4);
  int n_steps = 0, n_told = 0;
  bool more = true;
  for (int first = 0; more; first += kGroupsAtOnce) {
    std::vector<LossTrial> at_once(kGroupsAtOnce);
    const int first_number = number;
    number += kGroupsAtOnce;
    OnThreads(kGroupsAtOnce, [&](int lane) {
      LossTrial& trial = at_once[static_cast<size_t>(lane)];
      trial = {.step = first + lane, .number = first_number + lane, .timeout = timeout};
      Run(trials, &trial);
    });
    TryAgain(trials, &at_once, &number);
    for (const LossTrial& trial : at_once) {
      EXPECT_EQ(Problem(trials, trial), "");
      more = more && trial.reached;
      n_steps += trial.reached;
      for (int rank = 0; rank < trials.n_members; ++rank) {
        n_told += rank != trials.victim && !trial.results[static_cast<size_t>(rank)].ok();
      }
    }
  }
  EXPECT_GT(n_steps, trials.least_steps);
  EXPECT_GE(n_told, (n_steps - trials.harmless_steps) * (trials.n_members - 1));
}

}  // namespace coterie::comm_testing
