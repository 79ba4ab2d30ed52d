#ifndef COTERIE_COMMON_NAME_PATTERNS_H_
#define COTERIE_COMMON_NAME_PATTERNS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"

namespace coterie {

// Names of experts as shell patterns say them: "law-*", "code", "?-small". Immutable and thread-safe.
class NamePatterns {
 public:
  static constexpr size_t kMaxPatterns = 256;
  static constexpr size_t kMaxPatternBytes = 128;

  // InvalidArgument naming the pattern that no expert's name could match, or the limit.
  static Status Validate(const std::vector<std::string>& patterns);

  explicit NamePatterns(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}
  // Whether any of them does.
  bool Match(const std::string& name) const;
  const std::vector<std::string>& patterns() const { return patterns_; }

 private:
  const std::vector<std::string> patterns_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_NAME_PATTERNS_H_
