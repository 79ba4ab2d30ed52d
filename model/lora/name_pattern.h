#ifndef COTERIE_MODEL_LORA_NAME_PATTERN_H_
#define COTERIE_MODEL_LORA_NAME_PATTERN_H_

#include <memory>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie {

// A regular expression over module names out of an adapter's configuration, which nobody has vetted: its
// length and the steps of one match are bounded, so that a hostile one costs an error and not the process.
// Perl syntax, which for such patterns is Python's. Thread-safe once made.
class NamePattern {
 public:
  static constexpr size_t kMaxBytes = 8192;
  static constexpr uint32_t kMaxMatchSteps = 5000;

  // `what` names the field in errors (InvalidArgument: the pattern, the reason, the place).
  static StatusOr<NamePattern> Compile(std::string_view pattern, std::string_view what);

  // As Python's re.fullmatch and re.match. InvalidArgument when the match needs too many steps.
  StatusOr<bool> FullMatch(std::string_view name) const;
  // The number captured by the group (?P<idx>\d+) of a match at the start; -1 without a match.
  StatusOr<int> MatchIndex(std::string_view name) const;
  StatusOr<bool> MatchStart(std::string_view name) const;

 private:
  NamePattern() = default;
  Status Match(std::string_view name, uint32_t options, bool* matched, std::string_view* index) const;

  std::string text_, what_;
  std::shared_ptr<void> code_;           // pcre2_code
  std::shared_ptr<void> match_context_;  // pcre2_match_context
};

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_NAME_PATTERN_H_
