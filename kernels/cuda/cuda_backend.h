#ifndef COTERIE_KERNELS_CUDA_CUDA_BACKEND_H_
#define COTERIE_KERNELS_CUDA_CUDA_BACKEND_H_

#include <cuda_runtime.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/create.h"
#include "kernels/cuda/adapter_slots.h"
#include "kernels/cuda/fast_products.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/sampler.h"
#include "kernels/cuda/step_context.h"
#include "kernels/cuda/step_graphs.h"

namespace coterie::cuda {

// The backend of one GPU. Ops enqueue their kernels on one stream and return; two steps may be under way.
//
// A step of decode alone (every sequence has one token, and its logits are wanted) is a graph: its ops are
// captured when a batch of that size (rounded up) is first seen, and replayed ever after, which takes one
// launch where there would be hundreds. Nothing that a graph reads depends on the step but by its contents
// (step_data.h). In the replay of a step the ops are called as ever and do nothing.
class CudaBackend final : public DecoderOps {
 public:
  // FailedPrecondition where the device cannot be used, or cuBLASLt is wanted and cannot.
  static StatusOr<std::unique_ptr<CudaBackend>> Create(const CudaBackendOptions& options);
  ~CudaBackend() override;

  NumericsMode mode() const override { return NumericsMode::kFast; }
  std::string numerics_class() const override;
  bool batch_invariant() const override { return fast_ == nullptr; }
  std::string device_name() const override { return device_name_; }
  int steps_in_flight() const override { return 2; }
  int max_part_tokens() const override { return 1 << 20; }  // nothing is gained by cutting a step

  cudaStream_t stream() const { return stream_; }  // of the ops, for whoever measures them

  MemoryRoom Room() const override;
  StatusOr<std::unique_ptr<DeviceBuffer>> Allocate(size_t n_floats, Pages pages) override;
  StatusOr<std::unique_ptr<DeviceBuffer>> Upload(std::span<const float> values) override;
  StatusOr<std::unique_ptr<PackedMatrix>> PackMatrix(std::span<const HostMatrix> parts) override;
  size_t MatrixBytes(DType dtype, int64_t n_out, int64_t n_in) const override;
  int max_lora_rank() const override { return kMaxLoraRank; }
  StatusOr<std::unique_ptr<PackedAdapter>> PackAdapter(std::span<const HostLora> pairs) override;
  // Those whose weights are the same at every module: a step's weights are uploaded once.
  std::span<const GateKind> gates() const override { return std::span(kAllGates).first(1); }
  std::string adapter_layout() const override { return "cuda/1 bf16"; }
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
  void EndStep(StepContext* step) override;
  StatusOr<StepResult> Wait(StepContext* step) override;
  Status CheckOps(const GraphOps& ops) const override;
  void Embed(const StepContext& step, const PackedMatrix& table, float scale, float* x_dev) override;
  void LinearLora(const LoraCall& lora, const LinearInput& x, int rows, const PackedMatrix& w,
                  const DeviceBuffer* bias, bool accumulate, float* y_dev) override;
  void HeadAndSample(StepContext* step, const LinearInput& x, const PackedMatrix& head,
                     Seats* seats) override;
  void RopeAndKvWrite(const StepContext& step, int layer, int n_heads, const DeviceBuffer* q_norm,
                      const DeviceBuffer* k_norm, float eps, const RopeTable& rope, float* qkv_dev,
                      KvCache* kv) override;
  void PagedAttention(const StepContext& step, int layer, int n_heads, float scale, int window,
                      const float* qkv_dev, const KvCache& kv, float* out_dev) override;
  void AddRmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d,
                  float* y_dev) override;
  void GatherLogitRows(const StepContext& step, const float* x_dev, int d, float* y_dev) override;

 private:
  explicit CudaBackend(const CudaBackendOptions& options)
      : options_(options), pinned_(std::make_shared<PinnedPool>(options.adapter_bytes)) {}
  Status Start();
  Status OpenFastProducts();
  void Use() const { cudaSetDevice(options_.device); }  // a thread begins with device 0
  // Device memory that ops write in between.
  struct ScratchBytes {
    size_t operand = 0, lora = 0, split = 0, attention = 0, counters = 0;
    size_t logits = 0, sampled = 0, sampling = 0, logprobs = 0, sampler = 0;  // of whole steps
  };
  ScratchBytes ScratchFor(const StepLimits& limits, const KvCacheShape& kv) const;
  Status ReserveScratch(const StepLimits& limits);
  Status ReserveGraphs(const StepLimits& limits);
  int GroupOf(const StepLimits& limits) const { return limits.n_heads / kv_shape_.n_kv_heads; }
  int MaxItems(const StepLimits& limits) const;

  // Enqueues what `work` does, unless the step is a replay of it.
  template <class Work>
  void Do(Work work) {
    if (graphs_->replaying()) return;
    work();
    if (graphs_->capturing()) graphs_->Remember(std::move(work));
  }
  // Rows that a kernel is launched for: those of the graph, where the step is one.
  int RowsFor(const CudaStep& step, int rows) const { return step.graph_rows > 0 ? step.graph_rows : rows; }
  // The rows of x as bfloat16, [rows, n_in].
  const uint16_t* OperandOf(const LinearInput& x, int rows, int n_in);
  // Attention's results are the operand of the next product and nothing else: they are written as such at
  // once.
  bool IsOperandAlready(const LinearInput& x) const {
    return x.op == LinearInput::Op::kNone && x.x_dev == operand_holds_;
  }

  const CudaBackendOptions options_;
  const std::shared_ptr<PinnedPool> pinned_;  // of adapters
  std::string device_name_;
  int n_processors_ = 0;
  int compute_capability_ = 0;  // 90 is 9.0
  cudaStream_t stream_ = nullptr;
  std::unique_ptr<StepGraphs> graphs_;
  std::unique_ptr<FastProducts> fast_;  // null: all products are ours

  // Scratch of the ops, for the largest step.
  KvCacheShape kv_shape_;
  SeatLimits seat_limits_;
  std::vector<int32_t> no_tokens_;  // the step before has sampled nothing that the host knows
  std::optional<StepLayout> graph_layout_;
  DeviceMemory graph_region_;
  DeviceMemory operand_;  // [rows, max_input], bfloat16
  const float* operand_holds_ = nullptr;
  DeviceMemory logits_;    // [max_logit_rows, vocab]
  DeviceMemory sampled_;   // [max_logit_rows], of the last step: what FromRow means
  DeviceMemory logprobs_;  // of TokenLogprob
  DeviceMemory sampling_device_;
  DeviceMemory sampler_memory_;
  SamplerScratch sampler_scratch_;
  DeviceMemory lora_floats_;
  DeviceMemory split_sums_;
  int split_tokens_ = 0;  // rows that those are for
  LoraScratch lora_scratch_;
  DeviceMemory attention_partial_;
  DeviceMemory counters_;  // between blocks, 0 between launches
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_CUDA_BACKEND_H_
