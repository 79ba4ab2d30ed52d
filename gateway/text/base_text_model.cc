#include <array>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/path_name.h"
#include "common/utf8.h"
#include "gateway/text/text_model.h"
#include "model/text/base_text.h"
#include "model/text/continuation.h"
#include "model/text/incremental_detokenizer.h"

namespace coterie::gateway {
namespace {

// The tokenizer and the template of a real base model.
class BaseTextModel final : public TextModel {
 public:
  BaseTextModel(const ModelFiles& files, BaseText text)
      : name_(Printable(PathName(files.name()))),  // clients see it: not where it lies on this machine
        base_(files.ComputeDigest()),
        vocab_size_(static_cast<uint32_t>(files.config().vocab_size)),
        context_tokens_(static_cast<uint32_t>(files.config().context_length)),
        tokenizer_(std::move(text.tokenizer)),
        end_tokens_(std::move(text.end_tokens)),
        warnings_(std::move(text.warnings)),
        template_(std::move(text.chat_template)) {}

  const std::string& name() const override { return name_; }
  const Digest& base() const override { return base_; }
  const Digest& tokenizer() const override { return tokenizer_->digest(); }
  uint32_t vocab_size() const override { return vocab_size_; }
  uint32_t context_tokens() const override { return context_tokens_; }

  StatusOr<std::vector<int32_t>> EncodePrompt(std::string_view text, size_t max_tokens) const override {
    return tokenizer_->Encode(text, {.add_special = true, .max_tokens = max_tokens});
  }

  StatusOr<std::vector<int32_t>> EncodeChat(std::span<const ChatMessage> messages,
                                            size_t max_tokens) const override {
    ASSIGN_OR_RETURN(const RenderedPrompt prompt, Render(messages));
    // The template writes the tokenizer's own control tokens itself.
    return tokenizer_->EncodePieces(PiecesOf(prompt), {.max_tokens = max_tokens});
  }

  StatusOr<std::vector<int32_t>> EncodeContinuation(const TextInput& input,
                                                    std::span<const int32_t> input_ids, std::string_view text,
                                                    size_t max_tokens) const override {
    if (input.prompt) {
      const TextPiece piece{*input.prompt, /*is_trusted=*/false};
      const EncodedPrompt prompt{std::span(&piece, 1), /*add_special=*/true, input_ids};
      return coterie::EncodeContinuation(tokenizer_, prompt, text, max_tokens);
    }
    ASSIGN_OR_RETURN(const RenderedPrompt rendered, Render(input.chat));
    const std::vector<TextPiece> pieces = PiecesOf(rendered);
    return coterie::EncodeContinuation(tokenizer_, {pieces, /*add_special=*/false, input_ids}, text,
                                       max_tokens);
  }

  std::unique_ptr<TextStream> NewStream(std::span<const int32_t> after) const override {
    class Stream final : public TextStream {
     public:
      Stream(std::shared_ptr<const Tokenizer> tokenizer, std::span<const int32_t> after)
          : detokenizer_(std::move(tokenizer), {.after = after}) {}
      std::string Append(int32_t id) override { return detokenizer_.Append(id); }
      std::string Flush() override { return detokenizer_.Flush(); }
      std::string BytesOf(int32_t id) const override { return detokenizer_.BytesOf(id); }

     private:
      IncrementalDetokenizer detokenizer_;
    };
    return std::make_unique<Stream>(tokenizer_, after);
  }

  std::string TokenText(int32_t id) const override {
    return tokenizer_->Decode(std::array{id}, /*skip_special=*/false);
  }
  bool IsControl(int32_t id) const override { return tokenizer_->IsSpecial(id); }
  const std::vector<EndToken>& end_tokens() const override { return end_tokens_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }

 private:
  StatusOr<RenderedPrompt> Render(std::span<const ChatMessage> messages) const {
    std::vector<coterie::ChatMessage> conversation;
    for (const ChatMessage& message : messages) conversation.push_back({message.role, message.content});
    return template_.Render(ChatRequest::Of(conversation));
  }

  // Views of `prompt`.
  static std::vector<TextPiece> PiecesOf(const RenderedPrompt& prompt) {
    std::vector<TextPiece> pieces;
    for (const PromptPiece& piece : prompt.pieces) pieces.push_back({piece.text, piece.trusted});
    return pieces;
  }

  const std::string name_;
  const Digest base_;
  const uint32_t vocab_size_;
  const uint32_t context_tokens_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const std::vector<EndToken> end_tokens_;
  const std::vector<std::string> warnings_;
  const ChatTemplate template_;
};

}  // namespace

StatusOr<std::unique_ptr<const TextModel>> LoadTextModel(const ModelFiles& files) {
  ASSIGN_OR_RETURN(BaseText text, LoadBaseText(files));
  auto model = std::make_unique<const BaseTextModel>(files, std::move(text));
  RETURN_IF_ERROR(files.CheckWhole());  // it has read all of them by now
  return model;
}

}  // namespace coterie::gateway
