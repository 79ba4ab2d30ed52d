#ifndef COTERIE_KERNELS_CPU_CPU_BACKEND_H_
#define COTERIE_KERNELS_CPU_CPU_BACKEND_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/adapter_slots.h"
#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/lora_adapter.h"
#include "kernels/cpu/panels.h"
#include "kernels/cpu/step_sampler.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/create.h"
#include "kernels/step_plan.h"

namespace coterie::cpu {

class CpuSeats final : public Seats {
 public:
  explicit CpuSeats(const SeatLimits& limits)
      : blocks(limits.n_seats, limits.max_blocks), sampler(limits.vocab_size, limits.n_seats) {}

  BlockTable blocks;
  StepSampler sampler;
  std::vector<int32_t> sampled;  // [rows of the last step]
};

class CpuAdapter;

// What ops read about the current step, computed once in BeginStep, and the results of the step.
class CpuStep final : public StepContext {
 public:
  explicit CpuStep(const StepLimits& limits);
  void Begin(const Batch& batch, const CpuSeats& seats, const CpuAdapterSlots& slots);

  const Batch& batch() const { return plan_.batch(); }
  int n_tokens() const { return batch().n_tokens(); }
  const StepPlan& plan() const { return plan_; }
  const CpuAdapter& AdapterOf(const LoraGroup& group) const;

  // Scratch and results of HeadAndSample.
  std::vector<int32_t> keep;  // [n_logit_rows], see LinearTop
  std::vector<TopLogit> top;  // [sum of keep]
  AlignedBuffer logits;       // [rows with keep 0, vocab_size]
  StepOutput output;

 private:
  StepPlan plan_;
  const CpuAdapterSlots* slots_ = nullptr;
};

// Prompts of 512 and of 16 x 128 tokens were 7 and 16 % slower in one pass: what one product writes and the
// next reads (12 KiB a token over the demo's base) went to the third cache and back. With half as many the
// weights are read too often.
constexpr int kMaxPartTokens = 256;

// Ranges of panels per thread in a product.
constexpr int kLinearPieces = 4;

// Panels [begin, end) of a product, for one thread. `next` is the panel to prefetch: where the next range of
// this thread begins if all threads are equally fast.
struct PanelRange {
  int64_t begin;
  int64_t end;
  int64_t next;
};

// The CPU backend: each op cuts its outputs among the threads of the pool and calls the kernels of one
// instruction set. One op at a time (device.h); packing may run beside it, on the thread of whoever packs.
class CpuBackend final : public DecoderOps, public EncoderOps {
 public:
  static StatusOr<std::unique_ptr<CpuBackend>> Create(const CpuBackendOptions& options);

  NumericsMode mode() const override { return mode_; }
  std::string numerics_class() const override;
  bool batch_invariant() const override { return true; }
  std::string device_name() const override;
  int steps_in_flight() const override { return 1; }
  int max_part_tokens() const override { return kMaxPartTokens; }
  Status CheckOps(const GraphOps&) const override { return absl::OkStatus(); }

  MemoryRoom Room() const override { return AvailableMemory(); }
  StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t n_floats, Pages pages) override;
  StatusOr<std::unique_ptr<DeviceBuffer>> Upload(std::span<const float> values) override;
  StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(std::span<const HostMatrix> parts) override;
  size_t MatrixBytes(DType dtype, int64_t n_out, int64_t n_in) const override;
  std::span<const GateKind> gates() const override;
  int max_lora_rank() const override { return kMaxLoraRank; }
  StatusOr<std::unique_ptr<PackedAdapter>> PackAdapter(std::span<const HostLora> pairs) override;
  std::string adapter_layout() const override;
  StatusOr<std::unique_ptr<PackedAdapter>> CopyAdapter(std::span<const HostLora> pairs,
                                                       std::span<const uint8_t> weights) override;
  StatusOr<std::unique_ptr<KvCache>> MakeKvCache(const KvCacheShape& shape) override;
  size_t KvBlockBytes(const KvCacheShape& shape) const override;
  std::vector<MemoryDemand> StepMemory(const StepLimits& limits, const KvCacheShape& kv,
                                       const SeatLimits& seats) const override;
  StatusOr<std::unique_ptr<StepContext>> MakeStepContext(const StepLimits& limits) override;
  StatusOr<std::unique_ptr<AdapterSlots>> MakeAdapterSlots(int n_slots, int n_layers) override;
  StatusOr<std::unique_ptr<Seats>> MakeSeats(const SeatLimits& limits) override;

  void BeginStep(StepContext* step, const Batch& batch, Seats* seats, const AdapterSlots& slots) override;
  void EndStep(StepContext*) override {}
  StatusOr<StepResult> Wait(StepContext* step) override { return static_cast<CpuStep*>(step)->output.View(); }
  void Embed(const StepContext& step, const PackedMatrix& table, float scale, float* x_dev) override;
  void Linear(const LinearInput& x, int rows, const PackedMatrix& w, const DeviceBuffer* bias,
              bool accumulate, float* y_dev) override;
  void HeadAndSample(StepContext* step, const LinearInput& x, const PackedMatrix& head,
                     Seats* seats) override;
  void LinearLora(const LoraCall& lora, const LinearInput& x, int rows, const PackedMatrix& w,
                  const DeviceBuffer* bias, bool accumulate, float* y_dev) override;
  void RopeAndKvWrite(const StepContext& step, int layer, int n_heads, const DeviceBuffer* q_norm,
                      const DeviceBuffer* k_norm, float eps, const RopeTable& rope, float* qkv_dev,
                      KvCache* kv) override;
  void PagedAttention(const StepContext& step, int layer, int n_heads, float scale, int window,
                      const float* qkv_dev, const KvCache& kv, float* out_dev) override;
  void AddRmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d,
                  float* y_dev) override;
  void GatherLogitRows(const StepContext& step, const float* x_dev, int d, float* y_dev) override;
  void LayerNorm(const float* x_dev, const float* residual_dev, const DeviceBuffer& weight,
                 const DeviceBuffer& bias, float eps, int rows, int d, float* y_dev) override;
  void FullAttention(const float* qkv_dev, std::span<const int32_t> cu_seqlens, int n_heads, int head_dim,
                     float* out_dev) override;
  void MeanPoolNormalize(const float* x_dev, std::span<const int32_t> cu_seqlens, int d,
                         float* y_dev) override;

  // The product y = x [rows, n_in] · wᵀ, of which only the wanted values are stored. For row r with keep[r] >
  // 0 (at most kMaxTopLogits and the outputs of w), the keep[r] largest values in the order of Before() go to
  // `top` [sum of keep], row after row; if a value of the row is not finite, all of its entries are NaN and
  // -1. Rows with keep[r] == 0 go to y [.., n_out] with all values, one after the other.
  void LinearTop(const LinearInput& x, int rows, const PackedMatrix& w, std::span<const int32_t> keep,
                 float* y, TopLogit* top);
  // The ops that LinearInput fuses into a product, by themselves: for tests.
  // y [rows, d] = x / sqrt(mean(x²) + eps) * weight [d]. y may be x.
  void RmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d, float* y_dev);
  // h [rows, f] = silu(gate) · up for gate_up [rows, 2 f], gate first.
  void SwiGlu(const float* gate_up_dev, int rows, int f, float* h_dev);
  // h [rows, f] = gelu(gate) · up, gelu by tanh.
  void GeGlu(const float* gate_up_dev, int rows, int f, float* h_dev);
  // x = x/2 (1 + erf(x/√2)), in place.
  void Gelu(float* x_dev, int rows, int d);

 private:
  CpuBackend(const CpuBackendOptions& options, const KernelTable* kernels, KvType kv_type, int n_threads);

  // body(begin, end) over rows: on the pool when `floats_per_row` makes it worth a dispatch, else here.
  template <class Body>
  void ForRows(int rows, int64_t floats_per_row, Body&& body) {
    // A dispatch costs 1-2 µs; 16,384 floats of elementwise work about as much.
    if (static_cast<int64_t>(rows) * floats_per_row < 16384) {
      if (rows > 0) body(0, rows, 0);
    } else {
      pool_.RunRanges(rows, 2, [&](int64_t begin, int64_t end, int thread) {
        body(static_cast<int>(begin), static_cast<int>(end), thread);
      });
    }
  }
  // A product, as the threads that claim ranges of its panels share it.
  struct LinearCall {
    const CpuMatrix* matrix = nullptr;
    LinearArgs args = {};         // without what depends on the segment of the matrix
    const float* bias = nullptr;  // [n_out] or null
    float* y = nullptr;           // [rows, args.y_stride]
    bool fast = false;            // wants args.q
    LinearInput input = nullptr;  // the operand that args.x and args.q are computed from
    QuantisedBlock* q = nullptr;  // [rows, args.n_in / 32], to be filled; null where nothing reads codes

    // The product of rows [begin, end) alone.
    LinearCall Rows(int begin, int end) const {
      LinearCall part = *this;
      part.args.rows = end - begin;
      if (args.x != nullptr) part.args.x += begin * args.x_stride;
      if (args.q != nullptr) part.args.q += begin * (args.n_in / kPanelBlock);
      part.y += begin * args.y_stride;
      return part;
    }
  };
  // Fills in everything but the input.
  LinearCall DescribeLinear(int rows, const CpuMatrix& matrix, const DeviceBuffer* bias, bool accumulate,
                            float* y) const;
  // Decides what PrepareRows computes from the input: codes, floats or both.
  void PlanInput(const LinearInput& input, bool quantise, bool floats, LinearCall* call);
  // Computes rows [begin, end) of a planned input.
  void PrepareRows(const LinearCall& call, int begin, int end, int thread);
  void PrepareAllRows(const LinearCall& call);
  void RunPanels(const LinearCall& call, const PanelRange& range) const;
  // body(range, thread) over ranges of the matrix's panels, cut at multiples of the panels that a tile of
  // many rows spans (KernelTable::wide_panels).
  template <class Body>
  void ForPanels(const LinearCall& call, Body&& body) {
    const int64_t n_panels = call.matrix->n_panels();
    const int64_t group = call.fast && call.args.rows >= kernels_->wide_rows ? kernels_->wide_panels : 1;
    const int64_t n_groups = (n_panels + group - 1) / group;
    const int64_t stride =  // if threads take turns
        n_groups * pool_.n_threads() / pool_.n_ranges(n_groups, kLinearPieces);
    const auto panel = [&](int64_t g) { return g * group < n_panels ? g * group : n_panels; };
    pool_.RunRanges(n_groups, kLinearPieces, [&](int64_t begin, int64_t end, int thread) {
      body(PanelRange{panel(begin), panel(end), panel(begin + stride)}, thread);
    });
  }

  void ReserveScratch(const StepLimits& limits);
  static size_t PreparedRowsBytes(int64_t n_in);  // of the rows that a thread computes at a time

  struct ThreadTop;
  void RunTopPanels(const LinearCall& call, const PanelRange& range, std::span<const int32_t> keep,
                    const ThreadTop& found) const;

  struct LoraUse;
  std::span<const LoraUse> PlanLora(const LoraCall& call, int64_t n_in);
  void ScoreRow(const LoraCall& call, const GatedSequence& gated, std::span<const LoraUse* const> adapters,
                size_t target, int row, std::span<float> scores) const;
  void WeighSequence(const LoraCall& call, const GatedSequence& gated,
                     std::span<const LoraUse* const> adapters, int n_rows);
  void WeighByGates(const LoraCall& call, std::span<const LoraUse> uses);
  void Shrink(const LoraUse& use, const LinearCall& call, size_t row_begin, size_t row_end, int64_t begin,
              int64_t end) const;
  void QuantiseShrunk(const LoraUse& use, std::span<const LoraTarget> targets, size_t row_begin,
                      size_t row_end) const;
  void ShrinkAll(std::span<const LoraUse> uses, std::span<const LoraTarget> targets, const LinearInput& input,
                 LinearCall* call);
  void ExpandRows(const LoraUse& use, const LoraTarget& target, size_t row_begin, size_t row_end,
                  const float* weights, int64_t begin, int64_t end, float* y, int64_t y_stride) const;
  void Expand(std::span<const LoraUse> uses, std::span<const LoraTarget> targets, int row_begin, int row_end,
              int64_t column_begin, int64_t column_end, float* y, int64_t y_stride) const;
  void ExpandAll(std::span<const LoraUse> uses, std::span<const LoraTarget> targets, int rows, float* y,
                 int64_t y_stride);

  const NumericsMode mode_;
  const KvType kv_type_;
  const bool arrow_gates_;
  const KernelTable* const kernels_;
  ThreadPool pool_;
  AlignedBuffer quantised_;                // QuantisedBlocks of the current product
  AlignedBuffer lora_;                     // A x of the current Lora call, and its codes
  std::vector<AlignedBuffer> prepared_;    // per thread: rows of floats about to be quantised
  AlignedBuffer top_;                      // per thread: the best that a LinearTop has found
  std::vector<AlignedBuffer> transposed_;  // per thread: K and V of one head (FullAttention)
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_CPU_BACKEND_H_
