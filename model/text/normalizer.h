#ifndef COTERIE_MODEL_TEXT_NORMALIZER_H_
#define COTERIE_MODEL_TEXT_NORMALIZER_H_

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "model/text/regex.h"
#include "model/text/unicode.h"

namespace coterie::text {

// A stretch of input while it is normalised: well-formed UTF-8.
struct NormalizedText {
  std::string text;
  // Whether the first character of `text` comes from the first character of the whole input (Metaspace's
  // scheme "first" asks); lost when that character is removed.
  bool at_start = false;
  // Whether it follows directly on other text, so that nothing is put before it; lost likewise.
  bool continues = false;

  void LoseFirstCharacter() { at_start = continues = false; }
};

// The size to which a text may grow while it is rewritten, so that a hostile file (replace "a" by "aa",
// thirty times) ends in an error.
inline constexpr size_t kMaxRewrittenBytes = size_t{256} << 20;

// One step of normalisation. Immutable and thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  // ResourceExhausted beyond kMaxRewrittenBytes, or when a pattern backtracks without end.
  virtual Status Apply(NormalizedText* text) const = 0;
  // A line that tells normalizers apart; part of the tokenizer's digest.
  virtual std::string Describe() const = 0;
};
using NormalizerPtr = std::unique_ptr<const Normalizer>;

NormalizerPtr MakeUnicodeNormalizer(NormalForm form);
NormalizerPtr MakeLowercase();
NormalizerPtr MakeStripAccents();  // removes marks; does not decompose first
NormalizerPtr MakeStrip(bool left, bool right);
// Puts `prefix` before a text that is not empty and does not continue another.
NormalizerPtr MakePrepend(std::string prefix);
// Every match of `pattern` becomes `content`, literally.
NormalizerPtr MakeReplace(std::shared_ptr<const Regex> pattern, std::string content);
NormalizerPtr MakeNormalizerSequence(std::vector<NormalizerPtr> steps);

struct BertNormalizerOptions {
  bool clean_text = true;             // drop control characters, make every white space ' '
  bool handle_chinese_chars = true;   // put spaces around CJK ideographs
  std::optional<bool> strip_accents;  // absent: as lowercase
  bool lowercase = true;
};
NormalizerPtr MakeBertNormalizer(const BertNormalizerOptions& options);

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_NORMALIZER_H_
