#ifndef COTERIE_MODEL_TEXT_DECODER_H_
#define COTERIE_MODEL_TEXT_DECODER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/status.h"
#include "model/text/regex.h"

namespace coterie::text {

// The steps from tokens (as the vocabulary writes them) to text, after tokenizer.json's decoders. Each but
// the fusing ones (ByteLevel, Fuse) works token by token.
struct ByteLevelStep {
};                   // byte_alphabet.h back to bytes, all tokens together; ill-formed UTF-8 becomes U+FFFD
struct FuseStep {};  // all tokens become one
struct ByteFallbackStep {};  // runs of <0x..> become characters
struct JoinStep {};          // no decoder given: tokens with a space between
struct ReplaceStep {
  std::shared_ptr<const Regex> pattern;
  std::string content;
};
struct StripStep {  // up to so many `content` off the beginning and the end of each token
  char32_t content;
  size_t start;
  size_t stop;
};
struct WordPieceStep {
  std::string prefix;
  bool cleanup;  // drop the space before punctuation and English contractions
};
struct MetaspaceStep {
  char32_t replacement;
  bool drop_first;  // the first token's are dropped, not made spaces
};
using DecoderStep = std::variant<ByteLevelStep, FuseStep, ByteFallbackStep, JoinStep, ReplaceStep, StripStep,
                                 WordPieceStep, MetaspaceStep>;

// An immutable chain of steps; thread-safe.
class Decoder {
 public:
  // InvalidArgument when a step that works token by token stands behind one that fuses them.
  static StatusOr<Decoder> Create(std::vector<DecoderStep> steps);
  const std::vector<DecoderStep>& steps() const { return steps_; }
  std::string Describe() const;

 private:
  explicit Decoder(std::vector<DecoderStep> steps) : steps_(std::move(steps)) {}
  std::vector<DecoderStep> steps_;
};

// One run of tokens through a Decoder. What Push and Finish append is always well-formed UTF-8 and together
// the decoded text. Not thread-safe; `decoder` must outlive it.
class DecoderRun {
 public:
  // In a run of byte tokens that is ill-formed the reference replaces every byte, which is known only when
  // the run ends. With `eager` characters are given out as soon as they are complete, and only the bytes that
  // fit nowhere are replaced.
  DecoderRun(const Decoder* decoder, bool eager);

  void Push(std::string_view token, std::string* out);
  void Finish(std::string* out);
  // The bytes that Push(token) would add to the text now; they need not be a whole character. Those of
  // successive tokens, each asked for before its Push, are the text but for ill-formed bytes (which the text
  // shows as U+FFFD) and for what a decoder takes off the end of the whole text.
  std::string BytesOf(std::string_view token) const;

 private:
  struct StepState {
    std::string pending;     // bytes not yet given out (ByteLevel, ByteFallback)
    bool is_first = true;    // no token seen yet (Join, WordPiece, Metaspace)
    size_t n_stripped = 0;   // Strip: characters taken off the beginning
    bool is_leading = true;  // Strip: nothing but those seen yet
    size_t n_held = 0;       // Strip: `content` characters at the end so far
    bool eager = false;
  };
  // Hands a chunk of a token to step `index`; `ends_token` says that the token is complete with it.
  void Feed(size_t index, std::string_view chunk, bool ends_token, std::string* out);
  // Tells step `index` that no token follows.
  void End(size_t index, std::string* out);

  static std::string Stripped(const StripStep& step, const StepState& state, bool is_fused,
                              std::string bytes);
  void FeedByteLevel(size_t index, std::string_view token, std::string* out);
  void FeedByteFallback(size_t index, std::string_view token, std::string* out);
  void EndByteRun(size_t index, std::string* out);
  void FeedStrip(size_t index, const StripStep& step, std::string_view chunk, bool ends_token,
                 std::string* out);

  const Decoder* decoder_;
  std::vector<StepState> states_;  // one per step
};

}  // namespace coterie::text

#endif  // COTERIE_MODEL_TEXT_DECODER_H_
