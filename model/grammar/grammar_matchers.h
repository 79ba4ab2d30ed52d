#ifndef COTERIE_MODEL_GRAMMAR_GRAMMAR_MATCHERS_H_
#define COTERIE_MODEL_GRAMMAR_GRAMMAR_MATCHERS_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/constraint.h"
#include "common/status.h"
#include "model/grammar/token_matcher.h"
#include "model/text/tokenizer.h"

namespace coterie {

// What each token adds to a text that goes on, by id [vocab_size]; empty for control tokens and ids without a
// token.
std::vector<std::string> TokenBytes(const Tokenizer& tokenizer, int vocab_size);

struct GrammarMatchersStats {
  std::atomic<uint64_t> compiled{0};
  std::atomic<uint64_t> hits{0};     // found compiled
  std::atomic<uint64_t> refused{0};  // not served, or past a limit
  std::atomic<uint64_t> compile_nanos{0};
};

struct GrammarMatchersOptions {
  // Compiled grammars that are kept, the least used go first.
  size_t max_kept = 64;
  size_t max_kept_bytes = size_t{128} << 20;
  // One that takes more is refused.
  size_t max_grammar_bytes = size_t{64} << 20;
};

// Matchers by the library xgrammar (Dong et al. 2024, XGrammar), which no other file knows. Grammars are
// compiled once and kept by their text.
class GrammarMatchers : public MatcherSource {
 public:
  // `tokens` as TokenBytes gives them; `end_tokens` end an answer.
  static StatusOr<std::unique_ptr<GrammarMatchers>> Create(const std::vector<std::string>& tokens,
                                                           const std::vector<int32_t>& end_tokens,
                                                           const GrammarMatchersOptions& options = {});
  ~GrammarMatchers() override;

  StatusOr<std::unique_ptr<TokenMatcher>> Make(const Constraint& constraint) override;
  const GrammarMatchersStats& stats() const { return stats_; }

 private:
  struct Parts;
  explicit GrammarMatchers(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
  GrammarMatchersStats stats_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_GRAMMAR_GRAMMAR_MATCHERS_H_
