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
  int n_threads = 0;  // cores to compute on; 0: all this process may use
  // Passes that may run at once, 1 to 64. A pass that runs alone computes on all cores, one beside others on
  // one core, so more passes than cores gain nothing.
  int n_passes = 1;
  int max_batch_tokens = 2048;      // tokens in one pass; more texts take more passes
  size_t max_text_bytes = 1 << 20;  // a longer text is refused
};

// A BERT sentence encoder on the CPU kernels: WordPiece, BERT, mean pooling, unit norm, as
// sentence-transformers computes them; in fast mode nearly so (docs/numerics.md). An embedding does not
// depend on the texts embedded beside it, nor on the cores it is computed on.
//
// Thread-safe: up to n_passes passes run at once and further ones wait; tokenising does not wait.
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

  // The two halves of Embed, for callers that form batches themselves. Tokenize gives the tokens of a text,
  // cut at max_tokens(); EmbedTokens gives one embedding for each tokenised text. Where the weights give no
  // finite direction for a text, its embedding is empty and its caller reports NotADirection; the others are
  // sound. DataLoss when the file of the embeddings shrank.
  StatusOr<std::vector<int32_t>> Tokenize(std::string_view text) const;
  // `one_core`: on one core alone, also where no other pass runs (where there is more than one pass at once).
  StatusOr<std::vector<Embedding>> EmbedTokens(std::span<const std::vector<int32_t>> texts,
                                               bool one_core = false);
  // As Tokenize, but a text of more than `limit` tokens gives the first and the last limit / 2 of them. A
  // limit of max_tokens() or more changes nothing.
  StatusOr<std::vector<int32_t>> TokenizeEnds(std::string_view text, int limit) const;

  static Status NotADirection();

  int dim() const { return config_.hidden_size; }
  int max_tokens() const { return config_.max_tokens; }
  int n_passes() const { return options_.n_passes; }  // that may run at once
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

  // Threads and memory of one pass at a time. The weights are shared: passes only read them.
  struct PassContext {
    std::unique_ptr<EncoderOps> backend;
    int max_tokens = 0;
    std::unique_ptr<DeviceBuffer> x;         // [max_tokens, hidden]
    std::unique_ptr<DeviceBuffer> qkv;       // [max_tokens, 3 hidden]
    std::unique_ptr<DeviceBuffer> attended;  // [max_tokens, hidden]
    std::unique_ptr<DeviceBuffer> ffn;       // [max_tokens, ffn]
    std::unique_ptr<DeviceBuffer> pooled;    // [max_tokens, hidden]: at most one text per token
    std::vector<int32_t> cu_seqlens;
    bool in_use = false;  // guarded by mutex_
  };
  // Holds a context while it lives; waits for a free one.
  class Lease;

  Encoder() = default;
  StatusOr<std::unique_ptr<PassContext>> MakeContext(int n_threads, int max_tokens,
                                                     Device::Pages pages) const;
  // Runs texts whose tokens fit one pass; appends their embeddings.
  void RunPass(PassContext* context, std::span<const std::vector<int32_t>> texts,
               std::vector<Embedding>* out) const;
  void SumEmbeddings(std::span<const std::vector<int32_t>> texts, float* x) const;
  void RunLayer(PassContext* context, const Norm& before, const Layer& layer, int n_tokens) const;

  EncoderOptions options_;
  BertConfig config_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Digest digest_;
  size_t weight_bytes_ = 0;

  // The embedding table stays in the mapped file: a pass reads only a few of its rows.
  TensorView word_embeddings_;              // [vocab, hidden]
  std::vector<float> position_embeddings_;  // [n_positions, hidden], with those of token type 0 added
  Norm embedding_norm_;
  std::vector<Layer> layers_;

  // The first computes on all cores, for a pass that runs alone; the others on one each.
  std::vector<std::unique_ptr<PassContext>> contexts_;
  Mutex mutex_;
  CondVar context_free_;
  int n_in_use_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_ENCODER_ENCODER_H_
