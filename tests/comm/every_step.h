#ifndef COTERIE_TESTS_COMM_EVERY_STEP_H_
#define COTERIE_TESTS_COMM_EVERY_STEP_H_

#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"

namespace coterie::comm_testing {

// A group that loses a member at one of its steps, and how each member ended.
struct LossTrial {
  int step = -1;           // at which the member is lost; -1: at none
  int number = 0;          // another one for every trial of a test
  absl::Duration timeout;  // of the formation and of each call

  bool reached = false;         // there was such a step
  std::vector<Status> results;  // [n_members]
};

struct LossTrials {
  int n_members = 3;
  int victim = 0;
  // The victim lives on without the others: where it fails, it names one of them.
  bool victim_is_judged = false;
  // There are more steps than this, and so many at which a loss may go unnoticed: those of the last call, in
  // which it may have done all that the others need.
  int least_steps = 10;
  int harmless_steps = 5;
  std::function<void(LossTrial* trial)> run;  // on several threads at once
};

// Loses the victim at every step there is, many groups at once, and expects every other member that fails to
// name it, and all to be well where nobody was lost.
//
// How long members wait for the lost one is worked out from a run without a loss. On a machine that is
// busier by now this may be too short: a trial in which somebody found a member silent that was not is done
// again with four times as long, and must be right with the longest. So is one that met a member of another
// trial's group.
void LoseAtEveryStep(const LossTrials& trials);

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_EVERY_STEP_H_
