#ifndef COTERIE_MODEL_TEXT_PRE_TOKENIZER_H_
#define COTERIE_MODEL_TEXT_PRE_TOKENIZER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "model/text/regex.h"

namespace coterie::text {

// A text cut into words. Words are stretches of `buffer`, in order, none empty; what lies between was
// removed.
struct Words {
  struct Span {
    uint32_t begin;
    uint32_t end;
    bool at_start;  // holds the first character of the whole input
  };
  std::string buffer;  // well-formed UTF-8 of less than 4 GiB
  std::vector<Span> spans;
  // Whether the buffer follows directly on other text: a word at its beginning gets no space put before it.
  bool continues = false;
};

// Cuts words into smaller ones; some kinds rewrite the text too. Immutable and thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual Status Apply(Words* words) const = 0;
  // A line that tells pre-tokenizers apart; part of the tokenizer's digest.
  virtual std::string Describe() const = 0;
};
using PreTokenizerPtr = std::unique_ptr<const PreTokenizer>;

// What happens to the parts that a pattern matched. Of "the-final--countdown" split at "-":
enum class SplitBehavior {
  kRemoved,             // the final countdown
  kIsolated,            // the - final - - countdown
  kMergedWithPrevious,  // the- final- - countdown
  kMergedWithNext,      // the -final - -countdown
  kContiguous,          // the - final -- countdown
};

PreTokenizerPtr MakeSplit(std::shared_ptr<const Regex> pattern, SplitBehavior behavior, bool invert);
PreTokenizerPtr MakeDigits(bool individual_digits);
PreTokenizerPtr MakePunctuation(SplitBehavior behavior);
PreTokenizerPtr MakeWhitespaceSplit();
PreTokenizerPtr MakeWhitespace();  // \w+ and [^\w\s]+
PreTokenizerPtr MakeBertPreTokenizer();
// Puts GPT-2's byte alphabet (byte_alphabet.h) in place of each word's bytes; `use_regex` cuts with GPT-2's
// expression first; `add_prefix_space` puts a space before words that do not begin with one (nor continue
// other text).
StatusOr<PreTokenizerPtr> MakeByteLevel(bool add_prefix_space, bool use_regex);

enum class PrependScheme { kFirst, kNever, kAlways };
// Every ' ' becomes `replacement`; `scheme` says which words get one in front (never one that continues other
// text); `split` cuts before each.
PreTokenizerPtr MakeMetaspace(char32_t replacement, PrependScheme scheme, bool split);
PreTokenizerPtr MakePreTokenizerSequence(std::vector<PreTokenizerPtr> steps);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_PRE_TOKENIZER_H_
