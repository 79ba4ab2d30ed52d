#ifndef COTERIE_MODEL_ENCODER_ENCODER_H_
#define COTERIE_MODEL_ENCODER_ENCODER_H_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "common/status.h"
#include "kernels/encoder_ops.h"
#include "model/encoder/bert_config.h"
#include "model/format/safetensors.h"
#include "model/text/tokenizer.h"

namespace coterie {

// A text as a direction: dim() values, Euclidean norm 1.
using Embedding = std::vector<float>;

struct EncoderOptions {
  // kFast: weights rounded to 8 bits at load, int8 products; kExact: float32.
  NumericsMode mode = NumericsMode::kExact;
  int n_threads = 0;                // cores to compute on; 0: all this process may use
  int max_batch_tokens = 2048;      // tokens in one pass; more texts take more passes
  size_t max_text_bytes = 1 << 20;  // a longer text is refused
};

// A BERT sentence encoder on the CPU kernels: WordPiece, BERT, mean pooling, unit norm, as
// sentence-transformers computes them; in mode fast nearly so (docs/numerics.md). An embedding does not
// depend on the texts embedded beside it. Thread-safe: one pass runs at a time and the others wait;
// tokenising does not.
class Encoder {
 public:
  // From a sentence-transformers folder (bert_config.h says which). Errors name file, tensor or field, and
  // value.
  static StatusOr<std::unique_ptr<Encoder>> Load(const std::filesystem::path& folder,
                                                 const EncoderOptions& options = {});

  // One embedding per text, in order. Texts longer than max_tokens() are cut there; words that look like
  // control tokens ("[SEP]") are text. InvalidArgument for a text beyond max_text_bytes; Internal where the
  // weights make no direction of a text (NotADirection).
  StatusOr<std::vector<Embedding>> Embed(std::span<const std::string> texts);

  // The two halves of Embed, for a caller that makes batches of its own: a text's tokens, cut at
  // max_tokens(); and one embedding for each of texts that were made so. It is empty where the weights gave
  // no finite direction: that text's caller says so (NotADirection), the others' are sound. DataLoss when the
  // file of the embeddings shrank.
  StatusOr<std::vector<int32_t>> Tokenize(std::string_view text) const;
  StatusOr<std::vector<Embedding>> EmbedTokens(std::span<const std::vector<int32_t>> texts);
  // As Tokenize, but of a text of more than `limit` tokens the first and the last half of so many; a limit of
  // max_tokens() and more is Tokenize's.
  StatusOr<std::vector<int32_t>> TokenizeEnds(std::string_view text, int limit) const;

  static Status NotADirection();

  int dim() const { return config_.hidden_size; }
  int max_tokens() const { return config_.max_tokens; }
  // SHA-256 over configuration, tokenizer and weights: which embedder made a vector. The same in both modes.
  const Digest& digest() const { return digest_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  size_t weight_bytes() const { return weight_bytes_; }  // packed, in memory

 private:
  struct Norm {
    std::unique_ptr<DeviceBuffer> weight, bias;  // [hidden]
  };
  struct Linear {
    std::unique_ptr<PackedMatrix> weight;  // [n_out, n_in]
    std::unique_ptr<DeviceBuffer> bias;    // [n_out]
  };
  struct Layer {
    Linear qkv;  // [3 hidden, hidden]: Q, K, V
    Linear attention_output;
    Norm attention_norm;
    Linear up;    // [ffn, hidden]
    Linear down;  // [hidden, ffn]
    Norm output_norm;
  };
  class Loader;

  Encoder() = default;
  // Runs texts whose tokens fit one pass; appends their embeddings.
  void RunPass(std::span<const std::vector<int32_t>> texts, std::vector<Embedding>* out)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SumEmbeddings(std::span<const std::vector<int32_t>> texts) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RunLayer(const Norm& before, const Layer& layer, int n_tokens) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  EncoderOptions options_;
  BertConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Digest digest_;
  size_t weight_bytes_ = 0;

  // The embedding tables stay in the mapped file: a pass reads a few of their rows only.
  TensorView word_embeddings_;              // [vocab, hidden]
  std::vector<float> position_embeddings_;  // [n_positions, hidden], with those of token type 0 added
  Norm embedding_norm_;
  std::vector<Layer> layers_;

  Mutex mutex_;  // guards the backend, which one thread at a time may use, and the buffers
  std::unique_ptr<EncoderOps> backend_;
  std::unique_ptr<DeviceBuffer> x_;         // [max_batch_tokens, hidden]
  std::unique_ptr<DeviceBuffer> qkv_;       // [max_batch_tokens, 3 hidden]
  std::unique_ptr<DeviceBuffer> attended_;  // [max_batch_tokens, hidden]
  std::unique_ptr<DeviceBuffer> hidden_;    // [max_batch_tokens, ffn]
  std::unique_ptr<DeviceBuffer> pooled_;    // [max_batch_tokens, hidden]: at most one text per token
  std::vector<int32_t> cu_seqlens_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie

#endif  // COTERIE_MODEL_ENCODER_ENCODER_H_
