#include "gateway/text/encoder_embedder.h"

#include <span>
#include <utility>
#include <vector>

#include "gateway/text/embed_batcher.h"
#include "model/encoder/encoder.h"

namespace coterie::gateway {
namespace {

class EncoderEmbedder final : public TextEmbedder {
 public:
  EncoderEmbedder(std::unique_ptr<Encoder> encoder, int max_question_tokens)
      : encoder_(std::move(encoder)),
        max_question_tokens_(max_question_tokens),
        batcher_(
            {.max_passes = static_cast<size_t>(encoder_->n_passes())},
            [this](std::span<const EmbedBatcher::Tokens> texts) -> StatusOr<std::vector<Embedding>> {
              return encoder_->EmbedTokens(texts);
            },
            [this](std::span<const EmbedBatcher::Tokens> texts) -> StatusOr<std::vector<Embedding>> {
              return encoder_->EmbedTokens(texts, /*one_core=*/true);
            }) {}

  void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) override {
    if (cancelled.is_set()) return done(EmbedBatcher::WhyCancelled());
    StatusOr<std::vector<int32_t>> tokens = urgency == Urgency::kRequest
                                                ? encoder_->TokenizeEnds(text, max_question_tokens_)
                                                : encoder_->Tokenize(text);
    if (!tokens.ok()) return done(tokens.status());
    batcher_.Submit(*std::move(tokens), urgency, std::move(cancelled),
                    [done = std::move(done)](StatusOr<Embedding> embedding) {
                      if (embedding.ok() && embedding->empty()) embedding = Encoder::NotADirection();
                      done(std::move(embedding));
                    });
  }
  size_t CountTokens(std::string_view text) const override {
    const StatusOr<std::vector<int32_t>> tokens = encoder_->Tokenize(text);
    return tokens.ok() ? tokens->size() : 0;
  }
  void Stop() override { batcher_.Stop(); }
  Work work() const override { return {batcher_.passes(), batcher_.texts()}; }
  size_t dim() const override { return static_cast<size_t>(encoder_->dim()); }
  const Digest& digest() const override { return encoder_->digest(); }

 private:
  const std::unique_ptr<Encoder> encoder_;
  const int max_question_tokens_;
  EmbedBatcher batcher_;  // uses the encoder
};

}  // namespace

StatusOr<std::unique_ptr<TextEmbedder>> LoadEmbedder(const std::filesystem::path& folder,
                                                     const EmbedderOptions& options) {
  ASSIGN_OR_RETURN(std::unique_ptr<Encoder> encoder,
                   Encoder::Load(folder, {.mode = options.mode,
                                          .n_threads = options.n_threads,
                                          .n_passes = std::max(1, options.n_threads)}));
  return std::make_unique<EncoderEmbedder>(std::move(encoder), options.max_question_tokens);
}

}  // namespace coterie::gateway
