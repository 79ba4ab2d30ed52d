#ifndef COTERIE_KERNELS_BACKEND_H_
#define COTERIE_KERNELS_BACKEND_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/batch.h"
#include "kernels/dtype.h"

// The op contract: what the model graphs may ask of a device. On the CPU, kernels/cpu/<group>.cc cuts an op
// into ranges and kernels/cpu/isa/<group>.h computes one range (RMSNorm: rows.cc, isa/rows.h). Every op's
// order of operations is fixed by docs/numerics.md, so that a row's result never depends on the other rows of
// the batch, on how a prompt was cut into chunks, or on the number of threads.
//
// Pointers named *_dev are device memory (host memory on the CPU backend). Activations are float32,
// row-major. Ops are enqueued in order; on the CPU they have finished when they return. Sizes are the
// caller's to get right: ops CHECK, they do not return errors, so that nothing fails inside the step loop.
namespace coterie {

// kExact: float32 activations over dequantised weights, float32 KV: the mode compared with references.
// kFast: int8 activations over quantised weights, adapters beside them in 8 bits, bfloat16 KV: the mode that
// serves; its loss is measured.
enum class NumericsMode : uint8_t { kExact, kFast };

// A weight matrix [n_out, n_in] as it stands in a file: rows in blocks of `dtype`, row-major.
struct HostMatrix {
  DType dtype = DType::kF32;
  int64_t n_out = 0;
  int64_t n_in = 0;
  const uint8_t* data = nullptr;  // borrowed until packed; may be unaligned
  // Source row of each output row, or empty for the identity. Undoes the row permutation that GGUF files of
  // the llama family carry on Q and K.
  std::vector<int32_t> row_order;
};

// A matrix packed for the device, immutable; owned by whoever packed it and freed with the last reference.
class PackedMatrix {
 public:
  virtual ~PackedMatrix() = default;
  virtual int64_t n_out() const = 0;
  virtual int64_t n_in() const = 0;
  virtual size_t bytes() const = 0;  // device memory held
  // True where any part of it is of a quantised type: the fast mode rounds this product's activations.
  virtual bool quantised() const = 0;
};

// A plain float32 vector on the device: norm weights, biases, RoPE tables.
class DeviceBuffer {
 public:
  virtual ~DeviceBuffer() = default;
  virtual float* data() const = 0;  // device pointer
  virtual size_t n_floats() const = 0;
};

// The linear layers an adapter may change, in the order of the forward pass. Q, K and V read the same input,
// as do gate and up; the fused products of those groups are laid side by side in their output rows.
enum class LoraModule : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
constexpr int kLoraModuleCount = 7;

// Where a module's product is added: its first column in the rows of a fused output.
struct LoraTarget {
  LoraModule module = LoraModule::kQ;
  int y_column = 0;
};

// One low-rank pair: y += weight * scale * B (A x). The fast mode holds A and B in 8 bits beside a quantised
// base; where the base's product is one of floats (`quantise` is false), the pair stays as stored, too.
struct HostLora {
  HostMatrix a;  // [rank, n_in]
  HostMatrix b;  // [n_out, rank]
  float scale = 0;
  int layer = 0;
  LoraModule module = LoraModule::kQ;
  bool quantise = true;
};

// All pairs of one adapter packed on the device, immutable. Read by steps on the engine's thread while other
// threads pack further adapters.
class PackedAdapter {
 public:
  virtual ~PackedAdapter() = default;
  virtual size_t bytes() const = 0;
};

struct KvCacheShape {
  int n_layers = 0;
  int n_blocks = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
};

constexpr int kKvBlockTokens = 16;  // tokens per KV block, the unit of paging and of prefix reuse

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

// Per-step metadata where the device can read it. Made once per engine for the largest step.
class StepContext {
 public:
  virtual ~StepContext() = default;
};

// The adapters of one step at one place of the graph.
struct LoraCall {
  const StepContext* step = nullptr;
  int layer = 0;
  std::span<const LoraTarget> targets;
};

// What a product reads: rows of x, or how they are made of x by an op of the same name. A backend that makes
// them on the way writes them to `floats_dev` only where something needs them as floats; LayerNorm's rows
// always, since after it they are the residual stream, too.
struct LinearInput {
  enum class Made : uint8_t { kAsIs, kRmsNorm, kSwiGlu, kLayerNorm, kGelu };

  // x [rows, n_in].
  LinearInput(const float* x_dev) : x_dev(x_dev) {}  // NOLINT(google-explicit-constructor)
  // x [rows, n_in].
  static LinearInput RmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, float* floats_dev) {
    return {Made::kRmsNorm, x_dev, &weight, nullptr, eps, floats_dev};
  }
  // gate_up [rows, 2 n_in].
  static LinearInput SwiGlu(const float* gate_up_dev, float* floats_dev) {
    return {Made::kSwiGlu, gate_up_dev, nullptr, nullptr, 0, floats_dev};
  }
  // x [rows, n_in], without a residual; made in place.
  static LinearInput LayerNorm(float* x_dev, const DeviceBuffer& weight, const DeviceBuffer& bias,
                               float eps) {
    return {Made::kLayerNorm, x_dev, &weight, &bias, eps, x_dev};
  }
  // x [rows, n_in]; afterwards it holds its old values or those of the op.
  static LinearInput Gelu(float* x_dev) { return {Made::kGelu, x_dev, nullptr, nullptr, 0, x_dev}; }

  Made made = Made::kAsIs;
  const float* x_dev = nullptr;
  const DeviceBuffer* weight = nullptr;  // [n_in], of norms
  const DeviceBuffer* bias = nullptr;    // [n_in], of LayerNorm
  float eps = 0;                         // of norms
  float* floats_dev = nullptr;           // [rows, n_in]; null for kAsIs

 private:
  LinearInput(Made made, const float* x_dev, const DeviceBuffer* weight, const DeviceBuffer* bias, float eps,
              float* floats_dev)
      : made(made), x_dev(x_dev), weight(weight), bias(bias), eps(eps), floats_dev(floats_dev) {}
};

// The largest step there will be. A backend reserves for it what its ops need beside their operands, so that
// nothing is allocated in a step.
struct StepLimits {
  int max_tokens = 0;
  int max_seqs = 0;
  int max_blocks = 0;  // entries of block_ids: a block that sequences share counts for each of them
  int max_logit_rows = 0;
  int max_input = 0;     // values of a product's input
  int max_adapters = 0;  // of one sequence
  int max_rank = 0;      // of an adapter at one input, its modules' together
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual NumericsMode mode() const = 0;
  // Everything that can change a bit of the result: "cpu/3 fast a32 kv=bf16" and the like. Part of the
  // worker's numerics class.
  virtual std::string numerics_class() const = 0;
  virtual std::string device_name() const = 0;
  // True where *_dev pointers may be read by the host at any time between ops (the CPU backend).
  virtual bool memory_is_host() const = 0;
  // A longer step is best taken through the layers in parts of about so many tokens: what one op writes is
  // then still in a near cache when the next reads it. Changes no bit.
  virtual int tokens_at_once() const = 0;

  // --- Memory and packing: any thread, before or beside steps; never inside one. ---
  enum class Pages : uint8_t { kNow, kWhenUsed };
  // kWhenUsed: costs memory only as far as it was written to, and time when that is.
  virtual StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t n_floats, Pages pages = Pages::kNow) = 0;
  virtual StatusOr<std::unique_ptr<DeviceBuffer>> Upload(std::span<const float> values) = 0;
  // Packs `parts` one under the other (their outputs side by side): all have the same n_in; dtypes may
  // differ.
  virtual StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(std::span<const HostMatrix> parts) = 0;
  // Bytes of device memory that such a matrix takes, packed.
  virtual size_t MatrixBytes(DType dtype, int64_t n_out, int64_t n_in) const = 0;
  virtual StatusOr<std::unique_ptr<PackedAdapter>> PackAdapter(std::span<const HostLora> pairs) = 0;
  // Not beside a step: the threads of steps fetch its pages.
  virtual StatusOr<std::unique_ptr<KvCache>> MakeKvCache(const KvCacheShape& shape) = 0;
  // Bytes of one block over all layers of `shape` (its n_blocks is not read).
  virtual size_t KvBlockBytes(const KvCacheShape& shape) const = 0;
  virtual StatusOr<std::unique_ptr<StepContext>> MakeStepContext(const StepLimits& limits) = 0;
  // Waits for everything enqueued and copies to the host.
  virtual Status Download(const float* from_dev, std::span<float> to) = 0;

  // --- Decoder ops: the engine's thread only. ---
  // Makes `batch` (borrowed until the next BeginStep of this context) the step that ops given it speak of.
  virtual void BeginStep(StepContext* step, const Batch& batch) = 0;

  // x [n_tokens, d] = rows token_ids of table [vocab, d], dequantised.
  virtual void Embed(const StepContext& step, const PackedMatrix& table, float* x_dev) = 0;

  // y [rows, d] = x / sqrt(mean(x²) + eps) * weight [d].  y may be x.
  virtual void RmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d,
                       float* y_dev) = 0;

  // y [rows, n_out] = x [rows, n_in] · wᵀ (+ bias [n_out]); with `accumulate`, y += that product.
  virtual void Linear(const LinearInput& x, int rows, const PackedMatrix& w, const DeviceBuffer* bias,
                      bool accumulate, float* y_dev) = 0;

  // The product y = x [rows, n_in] · wᵀ of which only so much is stored as is wanted. Of row r, where
  // keep[r] > 0 (at most kMaxTopLogits and w's outputs): its keep[r] largest values in the order of Before(),
  // in `top` (host memory, [sum of keep], row after row); when one of the row's values is not finite, NaN and
  // -1 in all of its places. Where keep[r] is 0, the whole row: such rows follow each other in y [.., n_out].
  virtual void LinearTop(const LinearInput& x, int rows, const PackedMatrix& w, std::span<const int32_t> keep,
                         float* y_dev, TopLogit* top) = 0;

  // For each target module, each sequence s and each of its adapters in order: the rows of s in y[:, y_column
  // ...] += weight · scale · B (A x), in one layer; rows of sequences without adapters are untouched. All
  // targets read the same x [n_tokens, n_in] and write y [n_tokens, y_stride]: Q, K and V are one call, as
  // are gate and up.
  virtual void Lora(const StepContext& step, int layer, std::span<const LoraTarget> targets,
                    const float* x_dev, int n_in, float* y_dev, int y_stride) = 0;

  // Linear and then Lora onto the same y, whose rows are w's outputs. A backend may overlap the two.
  virtual void LinearLora(const LoraCall& lora, const LinearInput& x, int rows, const PackedMatrix& w,
                          const DeviceBuffer* bias, bool accumulate, float* y_dev) {
    const int n_in = static_cast<int>(w.n_in());
    const float* x_dev = Materialise(x, rows, n_in);
    Linear(x_dev, rows, w, bias, accumulate, y_dev);
    Lora(*lora.step, lora.layer, lora.targets, x_dev, n_in, y_dev, static_cast<int>(w.n_out()));
  }

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

  // h [rows, f] = silu(gate) · up for gate_up [rows, 2 f], gate first.
  virtual void SwiGlu(const float* gate_up_dev, int rows, int f, float* h_dev) = 0;

  // y [n_logit_rows, d] = the rows of x [n_tokens, d] whose logits are wanted.
  virtual void GatherLogitRows(const StepContext& step, const float* x_dev, int d, float* y_dev) = 0;

  // --- Encoder ops (BERT): rows are the tokens of all texts one after the other. ---
  // y = (x + residual - mean) / sqrt(var + eps) * weight + bias; residual may be null. y may be x.
  virtual void LayerNorm(const float* x_dev, const float* residual_dev, const DeviceBuffer& weight,
                         const DeviceBuffer& bias, float eps, int rows, int d, float* y_dev) = 0;
  // x = x/2 (1 + erf(x/√2)), in place.
  virtual void Gelu(float* x_dev, int rows, int d) = 0;
  // out [rows, n_heads · head_dim]: attention of every token over all tokens of its own text.
  // qkv [rows, 3 · n_heads · head_dim]; cu_seqlens [n_texts + 1] on the host.
  virtual void FullAttention(const float* qkv_dev, std::span<const int32_t> cu_seqlens, int n_heads,
                             int head_dim, float* out_dev) = 0;
  // y [n_texts, d] = mean over each text's rows, divided by its Euclidean norm.
  virtual void MeanPoolNormalize(const float* x_dev, std::span<const int32_t> cu_seqlens, int d,
                                 float* y_dev) = 0;

 protected:
  // The rows [rows, n_in] of `input` as floats, made by the op: for backends that do not fuse the two.
  const float* Materialise(const LinearInput& input, int rows, int n_in) {
    switch (input.made) {
      case LinearInput::Made::kAsIs:
        return input.x_dev;
      case LinearInput::Made::kRmsNorm:
        RmsNorm(input.x_dev, *input.weight, input.eps, rows, n_in, input.floats_dev);
        break;
      case LinearInput::Made::kSwiGlu:
        SwiGlu(input.x_dev, rows, n_in, input.floats_dev);
        break;
      case LinearInput::Made::kLayerNorm:
        LayerNorm(input.x_dev, nullptr, *input.weight, *input.bias, input.eps, rows, n_in, input.floats_dev);
        break;
      case LinearInput::Made::kGelu:
        Gelu(input.floats_dev, rows, n_in);
        break;
    }
    return input.floats_dev;
  }
};

struct CpuBackendOptions {
  NumericsMode mode = NumericsMode::kFast;
  int n_threads = 0;  // 0: every core this process may run on
  // "", or "avx512_bf16", "avx512", "avx2", "neon_dot", "highway", "portable": force an instruction set
  // (tests; valgrind knows no AVX-512).
  std::string isa;
  // Type K and V are rounded to: F32, BF16 or F16. Unset: F32 in exact mode, BF16 in fast mode.
  std::optional<DType> kv_dtype;
};

// The one factory that knows the build's flags. InvalidArgument for a forced instruction set this machine
// lacks.
StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuBackendOptions& options);

}  // namespace coterie

#endif  // COTERIE_KERNELS_BACKEND_H_
