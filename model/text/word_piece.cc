#include <algorithm>

#include "model/text/unicode.h"
#include "model/text/word_model.h"

namespace coterie::text {
namespace {

class WordPiece final : public WordModel {
 public:
  WordPiece(std::shared_ptr<const Vocabulary> vocabulary, const std::vector<bool>& is_control,
            WordPieceOptions options)
      : vocabulary_(std::move(vocabulary)), is_control_(is_control), options_(std::move(options)) {
    for (size_t id = 0; id < vocabulary_->size(); ++id) {
      longest_token_ = std::max(longest_token_, vocabulary_->TokenOf(static_cast<int32_t>(id)).size());
    }
  }

  Status Tokenize(std::string_view word, std::vector<int32_t>* ids) const override {
    const size_t first = ids->size();
    const auto n_characters = static_cast<size_t>(std::count_if(
        word.begin(), word.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
    if (n_characters > options_.max_characters_per_word) return Unknown(first, ids);
    std::string piece;
    for (size_t begin = 0; begin < word.size();) {
      piece = begin > 0 ? options_.continuing_prefix : "";
      const size_t n_prefix = piece.size();
      // Nothing longer than the longest token can be found.
      size_t end = std::min(word.size(), begin + longest_token_);
      while (end < word.size() && (static_cast<unsigned char>(word[end]) & 0xC0) == 0x80) --end;
      piece += word.substr(begin, end - begin);
      int32_t id = -1;
      while (end > begin) {
        id = vocabulary_->IdOf(piece);
        if (id >= 0 && !is_control_[static_cast<size_t>(id)]) break;
        id = -1;
        (void)PreviousRune(word, &end);
        piece.resize(n_prefix + end - begin);
      }
      if (id < 0) return Unknown(first, ids);
      ids->push_back(id);
      begin = end;
    }
    return absl::OkStatus();
  }

  void UpdateDigest(Hasher* hasher) const override {
    hasher->UpdateField("WordPiece").UpdateField(options_.continuing_prefix);
    hasher->UpdateU64(options_.max_characters_per_word).UpdateU64(static_cast<uint64_t>(options_.unk_id));
  }

 private:
  Status Unknown(size_t first, std::vector<int32_t>* ids) const {
    ids->resize(first);
    if (options_.unk_id < 0) {
      return absl::InvalidArgumentError("a word is not in the vocabulary, which has no unknown token");
    }
    ids->push_back(options_.unk_id);
    return absl::OkStatus();
  }

  std::shared_ptr<const Vocabulary> vocabulary_;
  std::vector<bool> is_control_;
  WordPieceOptions options_;
  size_t longest_token_ = 0;  // bytes
};

}  // namespace

StatusOr<std::unique_ptr<const WordModel>> MakeWordPiece(std::shared_ptr<const Vocabulary> vocabulary,
                                                         const std::vector<bool>& is_control,
                                                         WordPieceOptions options) {
  return std::make_unique<WordPiece>(std::move(vocabulary), is_control, std::move(options));
}

}  // namespace coterie::text
