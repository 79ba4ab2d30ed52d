#ifndef COTERIE_TESTS_GATEWAY_FAKE_TEXT_MODEL_H_
#define COTERIE_TESTS_GATEWAY_FAKE_TEXT_MODEL_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gateway/text/text_embedder.h"
#include "gateway/text/text_model.h"

namespace coterie::gateway::testing {

// A model whose tokens are bytes; 256 ends a text. Its chat template writes "role: content\n" per message.
class FakeTextModel : public TextModel {
 public:
  static constexpr int32_t kEos = 256;
  // `before_encode`: what happens before anything is tokenised.
  explicit FakeTextModel(uint32_t context_tokens = 4096, std::function<void()> before_encode = nullptr)
      : context_tokens_(context_tokens),
        before_encode_(std::move(before_encode)),
        base_(Sha256("base")),
        tokenizer_(Sha256("tokenizer")) {}

  const std::string& name() const override { return name_; }
  const Digest& base() const override { return base_; }
  const Digest& tokenizer() const override { return tokenizer_; }
  uint32_t vocab_size() const override { return 257; }
  uint32_t context_tokens() const override { return context_tokens_; }

  StatusOr<std::vector<int32_t>> EncodePrompt(std::string_view text, size_t max_tokens) const override {
    if (before_encode_) before_encode_();
    if (text.size() > max_tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("the prompt has ", text.size(), " tokens, at most ", max_tokens, " are served"));
    }
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  StatusOr<std::vector<int32_t>> EncodeChat(std::span<const ChatMessage> messages,
                                            size_t max_tokens) const override {
    std::string text;
    for (const ChatMessage& message : messages)
      absl::StrAppend(&text, message.role, ": ", message.content, "\n");
    return EncodePrompt(text, max_tokens);
  }
  StatusOr<std::vector<int32_t>> EncodeContinuation(const TextInput& input,
                                                    std::span<const int32_t> input_ids, std::string_view text,
                                                    size_t max_tokens) const override {
    return EncodePrompt(text, max_tokens);
  }
  std::unique_ptr<TextStream> NewStream(std::span<const int32_t> after) const override {
    class Stream final : public TextStream {
      std::string Append(int32_t id) override { return BytesOf(id); }
      std::string Flush() override { return ""; }
      std::string BytesOf(int32_t id) const override {
        return id < kEos ? std::string(1, static_cast<char>(id)) : "";
      }
    };
    return std::make_unique<Stream>();
  }
  std::string TokenText(int32_t id) const override {
    return id == kEos ? "<eos>" : std::string(1, static_cast<char>(id));
  }
  bool IsControl(int32_t id) const override { return id == kEos; }
  const std::vector<EndToken>& end_tokens() const override { return end_tokens_; }
  const std::vector<std::string>& warnings() const override { return warnings_; }

 private:
  const uint32_t context_tokens_;
  const std::function<void()> before_encode_;
  const std::string name_ = "fake";
  const std::vector<EndToken> end_tokens_ = {{kEos, "<eos>", "name"}};
  const std::vector<std::string> warnings_;
  const Digest base_;
  const Digest tokenizer_;
};

// Embeds a text as the unit vector of its first letter: a -> axis 0, b -> axis 1, ...
class FakeEmbedder final : public TextEmbedder {
 public:
  static constexpr size_t kDim = 26;
  void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) override {
    done(VectorOf(text));
  }
  size_t CountTokens(std::string_view text) const override { return text.size(); }
  static std::vector<float> VectorOf(std::string_view text) {
    std::vector<float> vector(kDim, 0.0f);
    const char first = text.empty() ? 'a' : text.front();
    vector[first >= 'a' && first <= 'z' ? static_cast<size_t>(first - 'a') : 0] = 1.0f;
    return vector;
  }
  size_t dim() const override { return kDim; }
  const Digest& digest() const override { return digest_; }

 private:
  const Digest digest_ = Sha256("fake embedder");
};

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_FAKE_TEXT_MODEL_H_
