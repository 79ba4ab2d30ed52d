#ifndef COTERIE_MODEL_DECODER_DECODER_H_
#define COTERIE_MODEL_DECODER_DECODER_H_

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "common/status.h"
#include "kernels/decoder_ops.h"
#include "model/decoder/language_model.h"
#include "model/format/model_files.h"
#include "model/lora/packed_folder.h"

namespace coterie {

class ReadAhead;

struct DecoderOptions {
  // Room for keys and values: blocks of kKvBlockTokens tokens, or bytes to be divided into such blocks.
  // Exactly one of the two is set.
  int n_kv_blocks = 0;
  size_t kv_bytes = 0;
  int max_batch_tokens = 512;  // tokens of one step, prompts and decodes together
  int max_seqs = 16;           // sequences of one step
  // Rows of logits of one step; 0: max_seqs. Each takes 4 · vocab_size bytes once it was used.
  int max_logit_rows = 0;
  int max_context = 0;       // most positions of a sequence; 0: all the model has
  int n_seats = 0;           // 0: max_seqs for each step that may be in flight
  int n_adapter_slots = 16;  // at least 1
  int max_adapters_per_seq = 16;
  // A type that matrices of floats are rounded to when they are loaded, kQ8_0 or kQ4_1, so that the fast mode
  // multiplies them as integers (weight_matrix.h); none: they stay as they are. numerics_class then says so.
  std::optional<DType> float_weights;
  std::shared_ptr<PackedFolder> packed;  // packed files of adapters; null: none are read or written
  std::vector<int32_t> eos_token_ids;    // tokens that end an answer (text/end_tokens.h), for info()
};

// A decoder-only transformer of the architectures of format/architectures.h over the ops of a device. Weights
// are packed once in Create; the files may be closed afterwards. Threads and lifetimes: language_model.h.
// (Tokens to text: text::TokenDecoder.)
class Decoder final : public LanguageModel {
 public:
  // Packs all weights, releasing the mapped pages layer by layer, so that weights are never in memory twice.
  // InvalidArgument names the option that is out of range, or the feature of the model that this backend
  // lacks, before anything is packed, or the tensor that cannot be rounded as float_weights says;
  // ResourceExhausted when memory is short (PlanMemory tells beforehand: memory_plan.h).
  static StatusOr<std::unique_ptr<Decoder>> Create(const ModelFiles& files,
                                                   std::unique_ptr<DecoderOps> backend,
                                                   const DecoderOptions& options);

  const LanguageModelInfo& info() const override { return info_; }
  const ModelConfig& config() const { return config_; }
  DecoderOps& backend() { return *backend_; }

  StatusOr<std::unique_ptr<LoadedAdapter>> LoadAdapter(const std::filesystem::path& folder) override;
  AdapterSlots& adapter_slots() override { return *slots_; }
  StatusOr<StepTicket> Launch(const Batch& batch) override;
  StatusOr<StepResult> Collect(StepTicket ticket) override;

 private:
  struct Layer {
    std::unique_ptr<DeviceBuffer> attn_norm;       // [d]
    std::unique_ptr<PackedMatrix> qkv;             // [(n_heads + 2 n_kv_heads) · head_dim, d]
    std::unique_ptr<DeviceBuffer> qkv_bias;        // null where the model has none
    std::unique_ptr<DeviceBuffer> q_norm;          // [head_dim] or null
    std::unique_ptr<DeviceBuffer> k_norm;          // [head_dim] or null
    std::unique_ptr<PackedMatrix> o;               // [d, n_heads · head_dim]
    std::unique_ptr<DeviceBuffer> o_bias;          // null where the model has none
    std::unique_ptr<DeviceBuffer> attn_post_norm;  // [d] or null
    std::unique_ptr<DeviceBuffer> ffn_norm;        // [d]
    std::unique_ptr<PackedMatrix> gate_up;         // [2 ffn, d]
    std::unique_ptr<PackedMatrix> down;            // [d, ffn]
    std::unique_ptr<DeviceBuffer> ffn_post_norm;   // [d] or null
  };

  Decoder(const ModelConfig& config, std::unique_ptr<DecoderOps> backend, const DecoderOptions& options);
  Status LoadWeights(const ModelFiles& files, ReadAhead* ahead);
  StatusOr<std::unique_ptr<PackedMatrix>> PackWeights(const ModelFiles& files,
                                                      std::initializer_list<WeightRole> roles, int layer);
  StatusOr<Layer> LoadLayer(const ModelFiles& files, int index);
  Status AllocateBuffers();
  Status CheckBatch(const Batch& batch) const;
  // Runs all layers on a step that has begun, in parts if it is long. Returns the input of the head: the
  // final norm over the rows whose logits are wanted.
  LinearInput RunInParts(StepContext* step, const Batch& batch);
  // Runs all layers on one part, begun as `step`. Returns where the rows with wanted logits are: x_ if every
  // row of an undivided step is wanted, else last_ from row `first_logit_row` on; null if none is wanted.
  const float* RunPart(StepContext* step, const Batch& part, int first_logit_row, bool whole_step);
  const PackedMatrix& head() const { return head_ != nullptr ? *head_ : *embedding_; }
  StepContext* StepOf(StepTicket ticket) const { return steps_[ticket % steps_.size()].get(); }
  // Rows of one step as they go through the layers.
  struct Rows {
    StepContext* step;
    int n;
    float* x;    // [n, d], the residual stream
    float* qkv;  // [n, (n_heads + 2 n_kv_heads) · head_dim]
  };
  LinearInput Normed(const Rows& rows, const DeviceBuffer& weight) const;
  void WriteKv(int index, const Rows& rows);
  void FinishLayer(int index, const Rows& rows);
  void AddToStream(const LoraCall& lora, const LinearInput& input, const PackedMatrix& w,
                   const DeviceBuffer* bias, const DeviceBuffer* post_norm, const Rows& rows);
  Rows LogitRowsOf(const Batch& part, const Rows& all, int first_logit_row);
  const PackedMatrix& ProductOf(int layer, LoraModule module) const;
  void MarkQuantised(std::vector<HostLora>* pairs) const;
  Digest AdapterLayout() const;
  StatusOr<std::unique_ptr<LoadedAdapter>> CopyPacked(const PackedKey& key, const MappedFile& file);
  // Sets *pairs to the pairs that were packed, without their data.
  StatusOr<std::unique_ptr<LoadedAdapter>> PackFiles(const std::filesystem::path& folder,
                                                     std::vector<HostLora>* pairs);

  const ModelConfig config_;
  const std::unique_ptr<DecoderOps> backend_;
  DecoderOptions options_;
  LanguageModelInfo info_;
  int max_positions_ = 0;  // of a sequence: the context, or what the KV blocks hold if that is less

  std::unique_ptr<PackedMatrix> embedding_;   // [vocab, d]; also the head when tied
  std::unique_ptr<PackedMatrix> head_;        // [vocab, d] or null: tied
  std::unique_ptr<DeviceBuffer> final_norm_;  // [d]
  std::vector<Layer> layers_;
  RopeTable rope_;
  RopeTable local_rope_;  // of layers with LayerKind::local_rope; empty where there are none
  // What adapters may change of a layer's two fused products.
  std::vector<LoraTarget> qkv_targets_;
  std::vector<LoraTarget> gate_up_targets_;

  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<Seats> seats_;
  std::unique_ptr<AdapterSlots> slots_;
  std::vector<std::unique_ptr<StepContext>> steps_;  // [steps in flight], by ticket
  StepTicket launched_ = 0;
  StepTicket collected_ = 0;
  Batch part_;  // of a long step, at most max_part_tokens_ tokens
  int max_part_tokens_ = 0;
  std::unique_ptr<StepContext> part_step_;
  std::unique_ptr<DeviceBuffer> x_;        // [max_part_tokens, d], the residual stream
  std::unique_ptr<DeviceBuffer> normed_;   // [max_part_tokens, d]
  std::unique_ptr<DeviceBuffer> qkv_;      // [max_part_tokens, (n_heads + 2 n_kv_heads) · head_dim]
  std::unique_ptr<DeviceBuffer> attn_;     // [max_part_tokens, n_heads · head_dim]
  std::unique_ptr<DeviceBuffer> gate_up_;  // [max_part_tokens, 2 ffn]
  std::unique_ptr<DeviceBuffer> hidden_;   // [max_part_tokens, ffn]
  Batch logit_batch_;                      // the part's logit rows alone, for the end of the last layer
  std::unique_ptr<StepContext> logit_step_;
  std::unique_ptr<DeviceBuffer> last_;      // [n_logit_rows, d]
  std::unique_ptr<DeviceBuffer> last_qkv_;  // [logit rows of a part, (n_heads + 2 n_kv_heads) · head_dim]
};

}  // namespace coterie

#endif  // COTERIE_MODEL_DECODER_DECODER_H_
