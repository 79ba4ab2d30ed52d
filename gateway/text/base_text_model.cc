#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "common/content_kind.h"
#include "common/file.h"
#include "common/path_name.h"
#include "gateway/text/text_model.h"
#include "model/chat/chat_template.h"
#include "model/format/model_files.h"
#include "model/text/gguf_tokenizer.h"
#include "model/text/incremental_detokenizer.h"
#include "model/text/tokenizer.h"

namespace coterie::gateway {
namespace {

constexpr size_t kMaxTemplateFileBytes = 16 << 20;

// The tokenizer and the template of a real base model.
class BaseTextModel final : public TextModel {
 public:
  BaseTextModel(const ModelFiles& files, std::shared_ptr<const Tokenizer> tokenizer,
                ChatTemplate chat_template)
      : name_(PathName(files.name())),  // clients see it: not where it lies on this machine

        base_(files.ComputeDigest()),
        vocab_size_(static_cast<uint32_t>(files.config().vocab_size)),
        context_tokens_(static_cast<uint32_t>(files.config().context_length)),
        tokenizer_(std::move(tokenizer)),
        template_(std::move(chat_template)) {}

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
    std::vector<coterie::ChatMessage> conversation;
    for (const ChatMessage& message : messages) conversation.push_back({message.role, message.content});
    ASSIGN_OR_RETURN(const RenderedPrompt prompt, template_.Render(ChatRequest::Of(conversation)));
    std::vector<TextPiece> pieces;
    for (const PromptPiece& piece : prompt.pieces) pieces.push_back({piece.text, piece.trusted});
    // The template writes the tokenizer's own control tokens itself.
    return tokenizer_->EncodePieces(pieces, {.max_tokens = max_tokens});
  }

  StatusOr<std::vector<int32_t>> EncodeContinuation(std::string_view text, size_t max_tokens) const override {
    return tokenizer_->Encode(text, {.max_tokens = max_tokens});
  }

  std::unique_ptr<TextStream> NewStream() const override {
    class Stream final : public TextStream {
     public:
      explicit Stream(std::shared_ptr<const Tokenizer> tokenizer) : detokenizer_(std::move(tokenizer)) {}
      std::string Append(int32_t id) override { return detokenizer_.Append(id); }
      std::string Flush() override { return detokenizer_.Flush(); }

     private:
      IncrementalDetokenizer detokenizer_;
    };
    return std::make_unique<Stream>(tokenizer_);
  }

  std::string TokenText(int32_t id) const override {
    return tokenizer_->Decode(std::array{id}, /*skip_special=*/false);
  }

 private:
  const std::string name_;
  const Digest base_;
  const uint32_t vocab_size_;
  const uint32_t context_tokens_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const ChatTemplate template_;
};

// The template's source: GGUF metadata; for a folder chat_template.jinja, else tokenizer_config.json's field
// (a text, or a list of named ones of which "default" counts). Empty: the model has none.
StatusOr<std::string> ReadTemplate(const ModelFiles& files) {
  if (files.gguf() != nullptr) {
    const StatusOr<std::string_view> source = files.gguf()->GetString("tokenizer.chat_template");
    return source.ok() ? std::string(*source) : std::string();
  }
  const std::filesystem::path file = files.folder() / "chat_template.jinja";
  if (std::filesystem::exists(file)) return ReadFile(file, kMaxTemplateFileBytes);
  const std::filesystem::path config = files.folder() / "tokenizer_config.json";
  if (!std::filesystem::exists(config)) return std::string();
  ASSIGN_OR_RETURN(const std::string text, ReadFile(config, kMaxTemplateFileBytes));
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return ExplainRefusal(absl::InvalidArgumentError("not a JSON object"), Content::kJson, text,
                          config.string());
  }
  const auto found = json.find("chat_template");
  if (found == json.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const nlohmann::json& named : *found) {
      if (named.is_object() && named.value("name", nlohmann::json()) == "default" &&
          named.contains("template") && named["template"].is_string()) {
        return named["template"].get<std::string>();
      }
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat(config.string(), ": chat_template is neither a text nor a list with a \"default\""));
}

}  // namespace

StatusOr<std::unique_ptr<const TextModel>> LoadTextModel(const ModelFiles& files) {
  ASSIGN_OR_RETURN(
      const std::shared_ptr<const Tokenizer> tokenizer,
      files.gguf() != nullptr ? LoadTokenizer(*files.gguf()) : Tokenizer::FromFolder(files.folder()));
  ASSIGN_OR_RETURN(const std::string source, ReadTemplate(files));
  // Templates write these by name.
  ChatTemplate::SpecialTokens special;
  const SpecialTokenIds& ids = tokenizer->special_ids();
  const auto add = [&](const char* name, int32_t id) {
    if (id >= 0) special.emplace_back(name, tokenizer->Decode(std::array{id}, /*skip_special=*/false));
  };
  add("bos_token", ids.bos);
  add("eos_token", ids.eos.empty() ? -1 : ids.eos.front());
  add("unk_token", ids.unk);
  add("pad_token", ids.pad);
  StatusOr<ChatTemplate> chat_template = ChatTemplate::Create(source, std::move(special));
  if (!chat_template.ok()) {
    return Annotate(chat_template.status(), absl::StrCat("the chat template of ", files.name()));
  }
  auto model = std::make_unique<const BaseTextModel>(files, tokenizer, *std::move(chat_template));
  RETURN_IF_ERROR(files.CheckWhole());  // it has read all of them by now
  return model;
}

}  // namespace coterie::gateway
