#include "common/name_patterns.h"

#include <fnmatch.h>

#include "common/quoted.h"

namespace coterie {

Status NamePatterns::Validate(const std::vector<std::string>& patterns) {
  if (patterns.size() > kMaxPatterns) {
    return absl::InvalidArgumentError(
        absl::StrCat(patterns.size(), " patterns, at most ", kMaxPatterns, " are allowed"));
  }
  for (const std::string& pattern : patterns) {
    const bool plain =
        pattern.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-*?[]!") == std::string::npos;
    if (!pattern.empty() && pattern.size() <= kMaxPatternBytes && plain) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        Quoted(pattern), " is no pattern of experts' names: 1 to ", kMaxPatternBytes,
        " small letters, digits, '.', '_', '-', and '*', '?', '[...]' as a shell has them, are expected"));
  }
  return absl::OkStatus();
}

bool NamePatterns::Match(const std::string& name) const {
  for (const std::string& pattern : patterns_) {
    if (fnmatch(pattern.c_str(), name.c_str(), 0) == 0) return true;
  }
  return false;
}

}  // namespace coterie
