#ifndef COTERIE_MODEL_TEXT_TOKENIZER_H_
#define COTERIE_MODEL_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "model/text/token_decoder.h"

namespace coterie {

struct TokenizerSpec;

namespace text {
struct NormalizedText;
struct TokenizerParts;
}  // namespace text

// A stretch of a rendered prompt. Trusted text (a chat template's own) may hold control tokens; the rest
// (what a user wrote) is always text.
struct TextPiece {
  std::string_view text;
  bool is_trusted = false;
};

struct EncodeOptions {
  // Whether control tokens written out in the text ("<|im_end|>") become control tokens. Only for text that
  // no user can write. EncodePieces decides piece by piece instead.
  bool parse_special = false;
  // Whether to add what the tokenizer puts around a text: bos, eos, [CLS] ... [SEP].
  bool add_special = false;
  // Whether the text follows directly on other text: SentencePiece's space is not put before it. See
  // continuation.h.
  bool continues = false;
  // More tokens than this (those of add_special counted) are refused, or cut off when `truncate`.
  size_t max_tokens = size_t{1} << 20;
  bool truncate = false;
  // Longer texts are refused; never more than kMostBytes.
  static constexpr size_t kMostBytes = size_t{64} << 20;
  size_t max_bytes = size_t{4} << 20;
};

struct SpecialTokenIds {
  int32_t bos = -1;  // -1: none
  // What the tokenizer's own files name as ends (eos, eot, eom), eos first. end_tokens.h finds all that end
  // an answer.
  std::vector<int32_t> eos;
  int32_t unk = -1;
  int32_t pad = -1;
};

// Text to token ids and back, equal to Hugging Face `tokenizers` on every text: byte-level BPE,
// SentencePiece-like BPE with byte fallback, and WordPiece. Two differences are deliberate: text that is not
// trusted never becomes a control token by any way (the reference's merges might), and a control token sought
// in normalised text is found only where the whole stretch is trusted.
//
// Bytes that are not UTF-8 count as U+FFFD, one for each maximal ill-formed part. Immutable; thread-safe.
class Tokenizer {
 public:
  // From a GGUF file's metadata (tokenizer_spec.h). Kinds that are not known are refused by name.
  static StatusOr<std::shared_ptr<const Tokenizer>> Create(const TokenizerSpec& spec);
  // From the contents of tokenizer.json and, for the ids of bos, eos, unk and pad, tokenizer_config.json and
  // special_tokens_map.json (both may be empty). Components that are not known are refused by name;
  // truncation and padding are the caller's business.
  static StatusOr<std::shared_ptr<const Tokenizer>> FromJson(std::string_view tokenizer_json,
                                                             std::string_view tokenizer_config_json,
                                                             std::string_view special_tokens_map_json = {});
  // From tokenizer.json and, where they exist, tokenizer_config.json and special_tokens_map.json (for the
  // tokens that the former does not name) in `folder`.
  static StatusOr<std::shared_ptr<const Tokenizer>> FromFolder(const std::filesystem::path& folder);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // InvalidArgument beyond max_bytes or max_tokens; ResourceExhausted when an expression backtracks without
  // end.
  StatusOr<std::vector<int32_t>> Encode(std::string_view text, const EncodeOptions& options) const;
  // The pieces as one text (words may reach across them): control tokens are parsed only where they lie
  // wholly in trusted text, and nothing else cuts the text.
  StatusOr<std::vector<int32_t>> EncodePieces(std::span<const TextPiece> pieces,
                                              const EncodeOptions& options) const;

  // Ids without a token give nothing, as in the reference. Control tokens are left out when `skip_special`.
  std::string Decode(std::span<const int32_t> ids, bool skip_special = true) const;
  // The input of the decoder (token_decoder.h) for an id: its token; empty when there is none, or it is a
  // control token and those are skipped.
  std::string_view DecoderInput(int32_t id, bool skip_special) const;
  // The token as the vocabulary writes it ("Ġthe"), or NotFound naming the id.
  StatusOr<std::string_view> TokenToPiece(int32_t id) const;

  std::optional<int32_t> IdOf(std::string_view token) const;
  // Whether the id is a control token.
  bool IsSpecial(int32_t id) const;
  // Whether the id is a token that is found whole in a text before words are made of it: every control token,
  // and words that a user added.
  bool IsAdded(int32_t id) const;
  // What a person should know before trusting the ids, a sentence each; usually none.
  const std::vector<std::string>& warnings() const;
  // The largest id plus one. The logits of a model may have more rows (padding).
  size_t vocab_size() const;
  const SpecialTokenIds& special_ids() const;
  // SHA-256 of kind, vocabulary, merges and all that decides how text becomes ids.
  const Digest& digest() const;
  const text::TokenDecoder& decoder() const;

 private:
  explicit Tokenizer(std::unique_ptr<const text::TokenizerParts> parts);
  Status EncodeText(const text::NormalizedText& part, size_t begin, size_t end, size_t limit,
                    std::vector<int32_t>* ids) const;

  std::unique_ptr<const text::TokenizerParts> parts_;
  Digest digest_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_TEXT_TOKENIZER_H_
