#ifndef COTERIE_KERNELS_DECODER_OPS_H_
#define COTERIE_KERNELS_DECODER_OPS_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/batch.h"
#include "kernels/device.h"
#include "kernels/linear_input.h"
#include "kernels/lora.h"

namespace coterie {

struct KvCacheShape {
  int n_layers = 0;
  int n_blocks = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
};

constexpr int kKvBlockTokens = 16;  // tokens per KV block, the unit of paging and of prefix reuse
constexpr int KvBlocksFor(int n_tokens) { return (n_tokens + kKvBlockTokens - 1) / kKvBlockTokens; }

// Keys and values of every layer in blocks of kKvBlockTokens tokens, rounded to the mode's KV type. Layout is
// the backend's own. Block ids are handed out by the engine's BlockAllocator.
class KvCache {
 public:
  virtual ~KvCache() = default;
  virtual const KvCacheShape& shape() const = 0;
  virtual size_t bytes() const = 0;
};

// cos and sin of every rotation [n_positions, head_dim / 2], computed once in float64 from the model's
// frequencies and rounded to float32.
struct RopeTable {
  std::unique_ptr<DeviceBuffer> cos;
  std::unique_ptr<DeviceBuffer> sin;
  int rotary_dim = 0;  // leading dimensions of a head that rotate (all of them, for the models we run)
};

// One step's metadata where the device can read it, and its results. Created once for each step that may be
// in flight, with room for the largest step.
class StepContext {
 public:
  virtual ~StepContext() = default;
};

// State that stays on the device from step to step, beside the KV cache: the tokens that the last step
// sampled and, for the sequence at each seat, its KV blocks (block_table.h) and the token counts that
// penalties read (RowSampling::seat).
class Seats {
 public:
  virtual ~Seats() = default;
};

struct SeatLimits {
  int n_seats = 0;
  int max_blocks = 0;  // of one sequence
  int vocab_size = 0;
};

// The adapters of a step at one product of the graph.
struct LoraCall {
  const StepContext* step = nullptr;
  int layer = 0;
  std::span<const LoraTarget> targets;
};

// The largest step. A backend reserves scratch memory for it beforehand, so that steps allocate nothing.
struct StepLimits {
  int max_tokens = 0;
  int max_seqs = 0;
  int max_logit_rows = 0;
  int n_heads = 0;       // of queries
  int vocab_size = 0;    // of rows that are sampled; 0: none are
  int max_input = 0;     // largest n_in of a product
  int max_output = 0;    // largest n_out of one, the head's included
  int max_adapters = 0;  // of one sequence
  int max_rank = 0;      // of an adapter at one input: the sum over the modules that read it
};

// Ops of a graph that not every backend has.
struct GraphOps {
  bool scaled_embedding = false;  // Embed with another scale than 1
  bool ge_glu = false;            // LinearInput::Op::kGeGlu
  bool add_rms_norm = false;
};

// What a decoder's graph asks of a device, one op a method. On the CPU, kernels/cpu/<group>.cc cuts an op
// into ranges and kernels/cpu/isa/<group>.h computes one range. The contract of all ops: device.h.
class DecoderOps : public virtual Device {
 public:
  // Longer steps run faster when they pass through the layers in parts of at most this many tokens: what one
  // op writes is then still in a near cache when the next op reads it. No bit depends on it.
  virtual int max_part_tokens() const = 0;
  // How many steps to enqueue at a time: 1 where ops have finished when they return, else 2.
  virtual int steps_in_flight() const = 0;
  // Unimplemented naming the ops that this backend lacks. Asked before anything is packed.
  virtual Status CheckOps(const GraphOps& ops) const = 0;

  // The gates that steps may have (Batch::gates).
  virtual std::span<const GateKind> gates() const { return {}; }
  // The largest rank of a pair that PackAdapter takes.
  virtual int max_lora_rank() const = 0;
  virtual StatusOr<std::unique_ptr<PackedAdapter>> PackAdapter(std::span<const HostLora> pairs) = 0;
  // Names the layout that PackAdapter writes, with its version: backends that give the same name write the
  // same bytes for the same pairs.
  virtual std::string adapter_layout() const = 0;
  // Restores an adapter from the weights() of one that was packed from `pairs`, whose data is not read.
  // InvalidArgument when `weights` is not of the size these pairs take.
  virtual StatusOr<std::unique_ptr<PackedAdapter>> CopyAdapter(std::span<const HostLora> pairs,
                                                               std::span<const uint8_t> weights) = 0;
  // Not while a step runs, since the steps' threads fetch its pages.
  virtual StatusOr<std::unique_ptr<KvCache>> MakeKvCache(const KvCacheShape& shape) = 0;
  // Bytes of one block over all layers of `shape` (its n_blocks is not read).
  virtual size_t KvBlockBytes(const KvCacheShape& shape) const = 0;
  // What steps up to `limits`, the slots and the seats take beside what the graph allocates.
  virtual std::vector<MemoryDemand> StepMemory(const StepLimits& limits, const KvCacheShape& kv,
                                               const SeatLimits& seats) const = 0;
  virtual StatusOr<std::unique_ptr<StepContext>> MakeStepContext(const StepLimits& limits) = 0;
  virtual StatusOr<std::unique_ptr<AdapterSlots>> MakeAdapterSlots(int n_slots, int n_layers) = 0;
  virtual StatusOr<std::unique_ptr<Seats>> MakeSeats(const SeatLimits& limits) = 0;

  // --- A step: one thread. BeginStep, the ops in their order, EndStep; later Wait. ---
  // Applies the block changes of `batch` and makes it the step of every op that is given this context.
  // Borrows it until EndStep.
  virtual void BeginStep(StepContext* step, const Batch& batch, Seats* seats, const AdapterSlots& slots) = 0;
  virtual void EndStep(StepContext* step) = 0;
  // Waits until the step is computed; no other call waits. The results are valid until the next BeginStep of
  // this context. Unavailable when the device was lost.
  virtual StatusOr<StepResult> Wait(StepContext* step) = 0;

  // x [n_tokens, d] = scale · rows token_ids of table [vocab, d], dequantised. FromRow() ids are looked up in
  // the seats.
  virtual void Embed(const StepContext& step, const PackedMatrix& table, float scale, float* x_dev) = 0;

  // y [rows, n_out] = x [rows, n_in] · wᵀ (+ bias [n_out]); with `accumulate`, y += that product. Then the
  // step's adapters: for each target, each sequence s and each of its adapters in order, the rows of s in
  // y[:, y_column ...] += weight · scale · B (A x), the weight times the sequence's gate of row and module
  // where it has one; rows of sequences without adapters, and adapters whose gate is 0, get nothing added. Q,
  // K and V are one call, as are gate and up. A backend may overlap the two.
  virtual void LinearLora(const LoraCall& lora, const LinearInput& x, int rows, const PackedMatrix& w,
                          const DeviceBuffer* bias, bool accumulate, float* y_dev) = 0;

  // Computes the step's logit rows, x [n_logit_rows, d] · headᵀ [vocab, d], and samples each as
  // Batch::sampling says: its token, log-probabilities, the row itself. Stores no more of a row than that
  // needs. Applies the batch's counts_resets first; sampled tokens go into the seats.
  virtual void HeadAndSample(StepContext* step, const LinearInput& x, const PackedMatrix& head,
                             Seats* seats) = 0;

  // qkv [n_tokens, (n_heads + 2 n_kv_heads) · head_dim], heads of Q, then K, then V. Normalises each head of
  // Q and K (RMS, where the model has such weights [head_dim]), rotates Q and K by their positions
  // (half-split pairs i, i + rotary_dim/2), leaves Q in place, and writes K and V, rounded, into the blocks
  // of `layer`.
  virtual void RopeAndKvWrite(const StepContext& step, int layer, int n_heads, const DeviceBuffer* q_norm,
                              const DeviceBuffer* k_norm, float eps, const RopeTable& rope, float* qkv_dev,
                              KvCache* kv) = 0;

  // out [n_tokens, n_heads · head_dim]: causal attention of each token over its own sequence's blocks, scale
  // 1/sqrt(head_dim) unless given, heads of Q in groups sharing a KV head. `window` > 0 limits how far back.
  virtual void PagedAttention(const StepContext& step, int layer, int n_heads, float scale, int window,
                              const float* qkv_dev, const KvCache& kv, float* out_dev) = 0;

  // y [rows, d] += x [rows, d] / sqrt(mean(x²) + eps) · weight [d].
  virtual void AddRmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d,
                          float* y_dev) = 0;

  // y [n_logit_rows, d] = the rows of x [n_tokens, d] whose logits are wanted.
  virtual void GatherLogitRows(const StepContext& step, const float* x_dev, int d, float* y_dev) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_DECODER_OPS_H_
