#ifndef COTERIE_MODEL_TEXT_TOKEN_DECODER_H_
#define COTERIE_MODEL_TEXT_TOKEN_DECODER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/status.h"
#include "model/text/regex.h"

namespace coterie::text {

// The steps from tokens (as the vocabulary writes them) to text, after tokenizer.json's decoders. ByteLevel
// and Fuse join all tokens; each of the others works token by token.

// Turns the characters of byte_alphabet.h back into bytes, across all tokens. Ill-formed UTF-8 becomes
// U+FFFD.
struct ByteLevelStep {};
struct FuseStep {};          // joins all tokens into one
struct ByteFallbackStep {};  // turns runs of tokens <0x..> into characters
struct JoinStep {};          // puts a space between tokens; what a file without a decoder means
struct ReplaceStep {
  std::shared_ptr<const Regex> pattern;
  std::string content;
};
struct StripStep {  // strips `content` from both ends of each token
  char32_t content;
  size_t start;  // at most so many from the beginning
  size_t stop;   // and so many from the end
};
struct WordPieceStep {
  std::string prefix;
  bool cleanup;  // drop the space before punctuation and English contractions
};
struct MetaspaceStep {
  char32_t replacement;
  bool drop_first;  // drops those of the first token, which become spaces in all others
};
using DecoderStep = std::variant<ByteLevelStep, FuseStep, ByteFallbackStep, JoinStep, ReplaceStep, StripStep,
                                 WordPieceStep, MetaspaceStep>;

// Tokens to text: an immutable chain of steps. Thread-safe. (The transformer is coterie::Decoder.)
class TokenDecoder {
 public:
  // InvalidArgument when a step that works token by token stands behind one that fuses them.
  static StatusOr<TokenDecoder> Create(std::vector<DecoderStep> steps);
  const std::vector<DecoderStep>& steps() const { return steps_; }
  std::string Describe() const;

 private:
  explicit TokenDecoder(std::vector<DecoderStep> steps) : steps_(std::move(steps)) {}
  std::vector<DecoderStep> steps_;
};

// Decodes one run of tokens as they come. A character may be spread over several tokens: bytes that are not a
// whole UTF-8 character yet are held back (StepState::pending) until the rest of it comes or the run ends. So
// what Push and Finish append is always well-formed UTF-8, and all of it together is the decoded text. Not
// thread-safe; `decoder` must outlive it.
class TokenDecoderRun {
 public:
  // The reference replaces every byte of a run of byte tokens that is ill-formed, which is known only when
  // the run ends. With `eager`, characters are given out as soon as they are complete, and only bytes that
  // belong to no character are replaced.
  TokenDecoderRun(const TokenDecoder* decoder, bool eager);

  void Push(std::string_view token, std::string* out);
  void Finish(std::string* out);
  // The bytes that Push(token) would add to the text now; they need not end a UTF-8 character. Asked before
  // each Push, the bytes of all tokens together are the text, except that ill-formed bytes are not yet U+FFFD
  // and that what a decoder strips from the end of the text is still there.
  std::string BytesOf(std::string_view token) const;

 private:
  struct StepState {
    std::string pending;     // bytes held back: an unfinished UTF-8 character (ByteLevel, ByteFallback)
    bool is_first = true;    // no token seen yet (Join, WordPiece, Metaspace)
    size_t n_stripped = 0;   // Strip: characters taken off the beginning
    bool is_leading = true;  // Strip: only `content` seen so far
    size_t n_held = 0;       // Strip: `content` characters held back, perhaps the end
    bool eager = false;
  };
  // Hands a chunk of a token to step `index`; `ends_token` says that the token is complete with it.
  void Feed(size_t index, std::string_view chunk, bool ends_token, std::string* out);
  // Tells step `index` that no token follows.
  void End(size_t index, std::string* out);

  static std::string Stripped(const StripStep& step, const StepState& state, bool is_fused,
                              const std::string& bytes);
  void FeedByteLevel(size_t index, std::string_view token, std::string* out);
  void FeedByteFallback(size_t index, std::string_view token, std::string* out);
  void EndByteRun(size_t index, std::string* out);
  void FeedStrip(size_t index, const StripStep& step, std::string_view chunk, bool ends_token,
                 std::string* out);

  const TokenDecoder* decoder_;
  std::vector<StepState> states_;  // one per step
};

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_TOKEN_DECODER_H_
