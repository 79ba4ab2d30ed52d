#ifndef COTERIE_MODEL_CHAT_JINJA_LIMITS_H_
#define COTERIE_MODEL_CHAT_JINJA_LIMITS_H_

#include <cstddef>

#include "common/status.h"

namespace coterie::jinja {

// What one template may cost. A template comes with a model file and its input from a caller: both are
// foreign.
struct Limits {
  // Source text of a template. The longest chat template we know of has 24 KiB.
  size_t template_bytes = 256 * 1024;
  // Nesting of statements and expressions in the source, and of lists and dicts in values. Parser and
  // destructors recurse this deep at most, the interpreter within one macro.
  int depth = 96;
  // The same nesting summed over the macros being called: bounds recursion at run time.
  int stack_depth = 1200;
  // Evaluated nodes, loop turns, compared values.
  size_t steps = 4'000'000;
  // Bytes of text ever made while rendering, intermediate strings included; list elements count 16 each.
  size_t produced_bytes = size_t{64} << 20;
  // The rendered prompt.
  size_t output_bytes = size_t{16} << 20;
  // Elements of range(); what jinja2's sandbox allows.
  size_t range_elements = 100'000;
};

// What is left of the limits during one rendering.
class Budget {
 public:
  explicit Budget(const Limits& limits)
      : limits_(limits), steps_left_(limits.steps), bytes_left_(limits.produced_bytes) {}

  Status Step(size_t n = 1) {
    if (n > steps_left_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the template takes more than the limit of ", limits_.steps, " steps"));
    }
    steps_left_ -= n;
    return absl::OkStatus();
  }
  // Call it before producing the bytes.
  Status Bytes(size_t n) {
    if (n > bytes_left_) {
      return absl::ResourceExhaustedError(absl::StrCat("the template makes more than the limit of ",
                                                       limits_.produced_bytes, " bytes of text"));
    }
    bytes_left_ -= n;
    return absl::OkStatus();
  }
  // For lists: n elements of 16 bytes.
  Status Elements(size_t n) { return n > bytes_left_ / 16 ? Bytes(bytes_left_ + 1) : Bytes(n * 16); }

  const Limits& limits() const { return limits_; }

 private:
  const Limits& limits_;
  size_t steps_left_;
  size_t bytes_left_;
};

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_LIMITS_H_
