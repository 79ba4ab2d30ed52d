#include "model/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "model/text/tokenizer_parts.h"

namespace coterie {

using text::AddedTokenFinder;
using text::TrustMap;

namespace {

Digest DigestOf(const text::TokenizerParts& parts) {
  Hasher hasher;
  parts.model->UpdateDigest(&hasher);
  hasher.UpdateU64(parts.vocabulary->size());
  for (size_t id = 0; id < parts.vocabulary->size(); ++id) {
    hasher.UpdateField(parts.vocabulary->TokenOf(static_cast<int32_t>(id)));
  }
  hasher.UpdateU64(parts.added_tokens.size());
  for (const text::AddedToken& token : parts.added_tokens) {
    hasher.UpdateU64(static_cast<uint64_t>(token.id)).UpdateField(token.content);
    hasher.UpdateU64((token.single_word ? 1 : 0) | (token.lstrip ? 2 : 0) | (token.rstrip ? 4 : 0) |
                     (token.normalized ? 8 : 0) | (token.special ? 16 : 0));
  }
  hasher.UpdateField(parts.normalizer == nullptr ? "" : parts.normalizer->Describe());
  hasher.UpdateField(parts.pre_tokenizer == nullptr ? "" : parts.pre_tokenizer->Describe());
  hasher.UpdateField(parts.decoder->Describe());
  for (const std::vector<int32_t>* ids : {&parts.prefix, &parts.suffix}) {
    hasher.UpdateU64(ids->size());
    for (const int32_t id : *ids) hasher.UpdateU64(static_cast<uint64_t>(id));
  }
  return hasher.Finish();
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const text::TokenizerParts> parts)
    : parts_(std::move(parts)), digest_(DigestOf(*parts_)) {}

Tokenizer::~Tokenizer() = default;

StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text, const EncodeOptions& options) const {
  const TextPiece piece{text, options.parse_special};
  return EncodePieces(std::span(&piece, 1), options);
}

StatusOr<std::vector<int32_t>> Tokenizer::EncodePieces(std::span<const TextPiece> pieces,
                                                       const EncodeOptions& options) const {
  const size_t max_bytes = std::min(options.max_bytes, EncodeOptions::kMostBytes);
  size_t n_bytes = 0;
  for (const TextPiece& piece : pieces) {
    if (piece.text.size() > max_bytes - n_bytes) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text has more than ", max_bytes, " bytes, the limit for one text"));
    }
    n_bytes += piece.text.size();
  }
  std::string whole;
  whole.reserve(n_bytes);
  TrustMap trust;
  for (const TextPiece& piece : pieces) {
    const std::string text = text::ReplaceIllFormed(piece.text);
    whole += text;
    trust.Append(text.size(), piece.is_trusted);
  }

  std::vector<int32_t> ids;
  if (options.add_special) ids = parts_->prefix;
  const size_t n_suffix = options.add_special ? parts_->suffix.size() : 0;
  if (ids.size() + n_suffix > options.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("max_tokens is ", options.max_tokens, ", fewer than the ",
                                                   ids.size() + n_suffix, " special tokens around a text"));
  }
  const size_t limit = options.max_tokens - n_suffix;

  std::vector<AddedTokenFinder::Piece> found;
  parts_->raw_finder.Find(whole, trust, &found);
  std::vector<AddedTokenFinder::Piece> found_normalized;
  for (const AddedTokenFinder::Piece& piece : found) {
    if (ids.size() > limit) break;
    if (piece.token != nullptr) {
      ids.push_back(piece.token->id);
      continue;
    }
    text::NormalizedText part{whole.substr(piece.begin, piece.end - piece.begin),
                              /*at_start=*/piece.begin == 0 && !options.continues,
                              /*continues=*/piece.begin == 0 && options.continues};
    if (parts_->normalizer != nullptr) RETURN_IF_ERROR(parts_->normalizer->Apply(&part));
    found_normalized.clear();
    const TrustMap part_trust = TrustMap::All(trust.IsTrusted(piece.begin, piece.end), part.text.size());
    parts_->normalized_finder.Find(part.text, part_trust, &found_normalized);
    for (const AddedTokenFinder::Piece& inner : found_normalized) {
      if (inner.token != nullptr) {
        ids.push_back(inner.token->id);
      } else {
        RETURN_IF_ERROR(EncodeText(part, inner.begin, inner.end, limit, &ids));
      }
    }
  }

  if (ids.size() > limit) {
    if (!options.truncate) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text has more than ", options.max_tokens, " tokens, the limit"));
    }
    ids.resize(limit);
  }
  if (options.add_special) ids.insert(ids.end(), parts_->suffix.begin(), parts_->suffix.end());
  return ids;
}

// Appends the ids of part.text[begin, end), which holds no added token; stops once there are more than
// `limit`.
Status Tokenizer::EncodeText(const text::NormalizedText& part, size_t begin, size_t end, size_t limit,
                             std::vector<int32_t>* ids) const {
  if (begin == end) return absl::OkStatus();
  text::Words words;
  words.buffer = part.text.substr(begin, end - begin);
  words.spans = {{0, static_cast<uint32_t>(end - begin), part.at_start && begin == 0}};
  words.continues = part.continues && begin == 0;
  if (parts_->pre_tokenizer != nullptr) RETURN_IF_ERROR(parts_->pre_tokenizer->Apply(&words));
  const std::string_view buffer = words.buffer;
  for (const text::Words::Span& word : words.spans) {
    RETURN_IF_ERROR(parts_->model->Tokenize(buffer.substr(word.begin, word.end - word.begin), ids));
    if (ids->size() > limit) break;
  }
  return absl::OkStatus();
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string out;
  text::TokenDecoderRun run(parts_->decoder.get(), /*eager=*/false);
  for (const int32_t id : ids) {
    const std::string_view token = DecoderInput(id, skip_special);
    if (!token.empty()) run.Push(token, &out);
  }
  run.Finish(&out);
  return out;
}

std::string_view Tokenizer::DecoderInput(int32_t id, bool skip_special) const {
  if (id < 0 || static_cast<size_t>(id) >= vocab_size() || (skip_special && IsSpecial(id))) return {};
  const auto normalized = parts_->normalized_content.find(id);
  if (normalized != parts_->normalized_content.end()) return normalized->second;
  return parts_->vocabulary->TokenOf(id);
}

StatusOr<std::string_view> Tokenizer::TokenToPiece(int32_t id) const {
  if (id < 0 || static_cast<size_t>(id) >= vocab_size() || parts_->vocabulary->TokenOf(id).empty()) {
    return absl::NotFoundError(absl::StrCat("no token has id ", id, "; the vocabulary has ", vocab_size()));
  }
  return parts_->vocabulary->TokenOf(id);
}

std::optional<int32_t> Tokenizer::IdOf(std::string_view token) const {
  const int32_t id = parts_->vocabulary->IdOf(token);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() && parts_->is_special[static_cast<size_t>(id)];
}

bool Tokenizer::IsAdded(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < vocab_size() && parts_->is_added[static_cast<size_t>(id)];
}

size_t Tokenizer::vocab_size() const { return parts_->vocabulary->size(); }
const SpecialTokenIds& Tokenizer::special_ids() const { return parts_->special_ids; }
const std::vector<std::string>& Tokenizer::warnings() const { return parts_->warnings; }
const Digest& Tokenizer::digest() const { return digest_; }
const text::TokenDecoder& Tokenizer::decoder() const { return *parts_->decoder; }

}  // namespace coterie
