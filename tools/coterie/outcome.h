#ifndef COTERIE_TOOLS_COTERIE_OUTCOME_H_
#define COTERIE_TOOLS_COTERIE_OUTCOME_H_

#include "tools/coterie/command.h"

namespace coterie::command {

// Of a command over several experts: each that fails is named and stops none of the others, and the first
// gives the exit code.
class Outcome {
 public:
  explicit Outcome(bool json) : json_(json) {}
  // False where nobody is there to ask about the others.
  bool Failed(const Status& status) {
    const int code = Fail(status, json_);
    if (exit_code_ == kDone) exit_code_ = code;
    return !absl::IsUnavailable(status) && !absl::IsCancelled(status);
  }
  int exit_code() const { return exit_code_; }

 private:
  const bool json_;
  int exit_code_ = kDone;
};

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_OUTCOME_H_
