#include "gateway/text/encoder_embedder.h"

#include <array>
#include <string>
#include <utility>

#include "model/encoder/encoder.h"

namespace coterie::gateway {
namespace {

class EncoderEmbedder final : public TextEmbedder {
 public:
  explicit EncoderEmbedder(std::unique_ptr<Encoder> encoder) : encoder_(std::move(encoder)) {}

  StatusOr<std::vector<float>> Embed(std::string_view text) const override {
    ASSIGN_OR_RETURN(std::vector<Embedding> embeddings, encoder_->Embed(std::array{std::string(text)}));
    return std::move(embeddings[0]);
  }
  size_t dim() const override { return static_cast<size_t>(encoder_->dim()); }
  const Digest& digest() const override { return encoder_->digest(); }

 private:
  const std::unique_ptr<Encoder> encoder_;  // serialises its calls itself
};

}  // namespace

StatusOr<std::unique_ptr<const TextEmbedder>> LoadEmbedder(const std::filesystem::path& folder,
                                                           int n_threads) {
  ASSIGN_OR_RETURN(std::unique_ptr<Encoder> encoder, Encoder::Load(folder, {.n_threads = n_threads}));
  return std::make_unique<const EncoderEmbedder>(std::move(encoder));
}

}  // namespace coterie::gateway
