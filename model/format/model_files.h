#ifndef COTERIE_MODEL_FORMAT_MODEL_FILES_H_
#define COTERIE_MODEL_FORMAT_MODEL_FILES_H_

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/status.h"
#include "model/format/gguf.h"
#include "model/format/model_config.h"
#include "model/format/tensor_view.h"

namespace coterie {

// The role of a weight, whatever its file calls it. The first three occur once, the others in every layer.
enum class WeightRole : uint8_t {
  kTokenEmbedding,  // [vocab, hidden]
  kOutput,          // [vocab, hidden]; absent when the embeddings are tied
  kFinalNorm,       // [hidden]
  kAttnNorm,        // [hidden]
  kQ,               // [n_heads * head_dim, hidden]
  kK,               // [n_kv_heads * head_dim, hidden]
  kV,               // [n_kv_heads * head_dim, hidden]
  kO,               // [hidden, n_heads * head_dim]
  kQBias,           // [n_heads * head_dim]
  kKBias,           // [n_kv_heads * head_dim]
  kVBias,           // [n_kv_heads * head_dim]
  kOBias,           // [hidden]
  kQNorm,           // [head_dim]
  kKNorm,           // [head_dim]
  kFfnNorm,         // [hidden]
  kGate,            // [ffn, hidden]
  kUp,              // [ffn, hidden]
  kDown,            // [hidden, ffn]
  kAttnPostNorm,    // [hidden]
  kFfnPostNorm,     // [hidden]
  kQkv,             // [(n_heads + 2 n_kv_heads) * head_dim, hidden]: Q, K and V in one
  kGateUp,          // [2 ffn, hidden]: gate and up in one
};
constexpr int kWeightRoleCount = 22;

std::string_view WeightRoleName(WeightRole role);
bool IsPerLayer(WeightRole role);
// Whether a model of this configuration has such a weight.
bool HasWeight(const ModelConfig& config, WeightRole role);
std::vector<int64_t> WeightShape(const ModelConfig& config, WeightRole role);

// A weight and the order of its rows.
//
// GGUF files of the llama architecture store the rows of Q and K (and of their biases) permuted within each
// head, so that rotary embedding can take neighbouring rows (2i, 2i+1) as a pair; Hugging Face files pair (i,
// i + head_dim/2). We undo the permutation when a matrix is packed: row r of the matrix is row row_order[r]
// of the file. So the engine knows the half-split pairing only, and PEFT adapters, which were trained against
// the Hugging Face order, need no permutation at all.
struct Weight {
  TensorView tensor;
  std::vector<int32_t> row_order;  // empty: the file's own order
  float offset = 0;                // to be added to each value of a norm: Gemma's are stored less one
};

// row_order of a GGUF llama Q or K with `n_heads` heads of `head_dim` rows.
std::vector<int32_t> HalfSplitRowOrder(int n_heads, int head_dim);

// A token id and what names it.
struct NamedToken {
  int32_t id;
  std::string source;  // a GGUF key or a file's name
  bool operator==(const NamedToken&) const = default;
};
inline constexpr std::string_view kModelConfigFile = "config.json";
inline constexpr std::string_view kGenerationConfigFile = "generation_config.json";

// The files of one base model, opened and checked: a .gguf file, or a Hugging Face folder with config.json
// and safetensors. Immutable, readable by any thread. Weights are views of mapped files.
class ModelFiles {
 public:
  // Every weight that the configuration asks for must be there with its shape and a type that its role may
  // have (norms and biases F32, F16 or BF16), and nothing else: a tensor we do not know is refused by name,
  // since leaving it out may give another model. Errors name file, tensor or field, value and limit.
  static StatusOr<std::unique_ptr<ModelFiles>> Open(const std::filesystem::path& path);
  // The same from the bytes of a GGUF file, which must outlive the result.
  static StatusOr<std::unique_ptr<ModelFiles>> FromGguf(GgufFile file);

  const ModelConfig& config() const { return config_; }
  const std::string& name() const { return name_; }

  // `layer` is ignored for weights that stand once. CHECKs that the model has it (HasWeight).
  const Weight& Get(WeightRole role, int layer = 0) const;
  // The output head: kOutput, or the token embedding when they are tied.
  const Weight& OutputHead() const;
  // The roles that this model has, of those of every layer or of those that stand once.
  std::vector<WeightRole> Roles(bool per_layer) const;
  size_t n_bytes() const { return n_bytes_; }  // of all weights as they stand in the files

  // What the base is known by: SHA-256 over the configuration and all weights (base_digest.h, which makes it
  // layer by layer, too). Reads the whole model on all cores: about 0.05 s per 100 MB and core in memory.
  Digest ComputeDigest() const;
  // Lets the kernel drop the mapped pages, once everything was packed.
  void DropPages() const;
  // DataLoss when a file lost a part while it was mapped. Ask after the last read: what is gone reads as
  // zeros.
  Status CheckWhole() const;

  // --- What the tokenizer and the chat template are made from (model/text). ---
  // The GGUF file, or null for a folder.
  const GgufFile* gguf() const { return gguf_ ? &*gguf_ : nullptr; }
  // The folder with tokenizer.json and tokenizer_config.json, or empty for a GGUF file.
  const std::filesystem::path& folder() const { return folder_; }
  // Tokens that the files name as ends of an answer: GGUF's eos, eot and eom ids; the eos_token_id (a number
  // or a list) of generation_config.json and of config.json. May be empty; one id may stand more than once.
  // text/end_tokens.h decides which count, and finds further ones.
  const std::vector<NamedToken>& named_end_tokens() const { return named_end_tokens_; }
  std::optional<int32_t> bos_token_id() const { return bos_token_id_; }

 private:
  ModelFiles() = default;
  static StatusOr<std::unique_ptr<ModelFiles>> OpenFolder(const std::filesystem::path& folder);
  Status ReadGgufTokens();
  Status ReadFolderTokens(std::string_view config_text, std::string_view config_name);
  // Sorts `tensors` into weights_ by their file's naming; see Open.
  Status TakeTensors(const std::vector<TensorView>& tensors, bool is_gguf);
  size_t Slot(WeightRole role, int layer) const;

  std::string name_;
  ModelConfig config_;
  std::optional<GgufFile> gguf_;
  std::filesystem::path folder_;
  std::vector<Weight> weights_;  // [once-standing roles, then n_layers x per-layer roles]; unused ones empty
  size_t n_bytes_ = 0;
  std::vector<NamedToken> named_end_tokens_;
  std::optional<int32_t> bos_token_id_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_MODEL_FILES_H_
