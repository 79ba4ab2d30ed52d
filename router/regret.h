#ifndef COTERIE_ROUTER_REGRET_H_
#define COTERIE_ROUTER_REGRET_H_

#include <optional>
#include <string>
#include <string_view>

#include "router/running_moments.h"

namespace coterie {

// One prompt's mean loss, in nats per token, under those who might have answered it.
struct ShadowLosses {
  double chosen = 0;                // the chosen expert in its live version, whichever version answered
  std::optional<double> runner_up;  // the next candidate; nothing where there was none
  double base = 0;
  std::optional<double> canary;  // the chosen expert's, where it has one
};

// What the prompts that were routed to one expert say of that choice. Regret is the chosen expert's loss
// minus the least of chosen, runner-up and base: what the router could have saved with hindsight, and never
// negative. Whether another choice would be better as a rule is told by paired differences, which can be
// negative: the least of several noisy numbers lies below their means even where all are equally good. Plain
// data; not thread-safe.
class ExpertRegret {
 public:
  // A loss that is not finite makes the prompt say nothing; false then.
  bool Add(const ShadowLosses& losses);
  // Another canary, or none: what was learnt of the one before goes.
  void ForgetCanary() { canary_minus_chosen_ = {}; }

  uint64_t n() const { return chosen_.n(); }
  const RunningMoments& chosen() const { return chosen_; }
  const RunningMoments& runner_up() const { return runner_up_; }  // over the prompts that had one
  const RunningMoments& base() const { return base_; }
  const RunningMoments& regret() const { return regret_; }
  // Paired, on the same prompts; positive where the other one does better.
  const RunningMoments& chosen_minus_runner_up() const { return chosen_minus_runner_up_; }
  const RunningMoments& chosen_minus_base() const { return chosen_minus_base_; }
  // Paired; negative where the canary does better than the live version.
  const RunningMoments& canary_minus_chosen() const { return canary_minus_chosen_; }

 private:
  RunningMoments chosen_, runner_up_, base_, regret_;
  RunningMoments chosen_minus_runner_up_, chosen_minus_base_, canary_minus_chosen_;
};

// When a paired difference is worth a person's time: from so many prompts on, more than so many standard
// errors from nothing, and more than so many nats per token.
struct SignificanceOptions {
  uint64_t min_prompts = 30;
  double standard_errors = 3;
  double min_nats = 0.02;
};
// Whether `difference` lies above zero by all of that.
bool SignificantlyPositive(const RunningMoments& difference, const SignificanceOptions& options = {});

// What stands out of `regret`, in one sentence with its figures: the base, or the runner-up, does better on
// the questions that are routed to `expert`, or its canary does better or worse than its live version. Empty
// when nothing does.
std::string RegretFinding(std::string_view expert, const ExpertRegret& regret,
                          const SignificanceOptions& options = {});

}  // namespace coterie

#endif  // COTERIE_ROUTER_REGRET_H_
