#ifndef COTERIE_MODEL_TEXT_REGEX_H_
#define COTERIE_MODEL_TEXT_REGEX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

struct pcre2_real_code_8;

namespace coterie::text {

// A stretch of a text in bytes, [begin, end), and whether the pattern matched it.
struct Match {
  uint32_t begin;
  uint32_t end;
  bool is_match;
};

inline constexpr size_t kShownPatternBytes = 400;  // of a pattern, in an error that names an offset in it

// A regular expression of the dialect tokenizer.json is written in (Oniguruma, Ruby syntax), run by PCRE2
// (JIT). The subset that means the same in both is translated; anything else is refused by name. Immutable
// and thread-safe.
class Regex {
 public:
  // InvalidArgument names the construct that is not understood, or PCRE2's complaint and its offset.
  static StatusOr<std::shared_ptr<const Regex>> Create(std::string_view pattern);
  // Matches `text` itself.
  static StatusOr<std::shared_ptr<const Regex>> CreateLiteral(std::string_view text);
  ~Regex();
  Regex(const Regex&) = delete;
  Regex& operator=(const Regex&) = delete;

  // Appends to `matches` the stretches of text[begin, end), matched and not, in order and without gaps (empty
  // matches included). The search sees nothing outside [begin, end). `text` is well-formed UTF-8 of less than
  // 4 GiB. ResourceExhausted when the pattern backtracks beyond kMatchLimit.
  Status Find(std::string_view text, size_t begin, size_t end, std::vector<Match>* matches) const;

  const std::string& pattern() const { return pattern_; }

 private:
  Regex(std::string pattern, pcre2_real_code_8* code) : pattern_(std::move(pattern)), code_(code) {}
  std::string pattern_;
  pcre2_real_code_8* code_;
};

// The PCRE2 pattern (to be compiled with PCRE2_UTF) that means what `pattern` means to Oniguruma.
StatusOr<std::string> TranslateOniguruma(std::string_view pattern);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_REGEX_H_
