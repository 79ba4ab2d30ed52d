#ifndef COTERIE_KERNELS_CUDA_STEP_CONTEXT_H_
#define COTERIE_KERNELS_CUDA_STEP_CONTEXT_H_

#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "kernels/block_table.h"
#include "kernels/cuda/attention_items.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/step_data.h"
#include "kernels/cuda/step_sampling.h"
#include "kernels/cuda/step_upload.h"
#include "kernels/decoder_ops.h"
#include "kernels/step_plan.h"

namespace coterie::cuda {

class CudaSeats final : public Seats {
 public:
  static StatusOr<std::unique_ptr<CudaSeats>> Create(const SeatLimits& limits);

  const SeatLimits limits;
  BlockTable blocks;    // on the host: the step's plan reads it
  DeviceMemory table;   // the same on the device, [n_seats, max_blocks]
  DeviceMemory counts;  // [n_seats, vocab_size]: SamplingData

 private:
  explicit CudaSeats(const SeatLimits& limits) : limits(limits), blocks(limits.n_seats, limits.max_blocks) {}
};

class CudaKvCache final : public KvCache {
 public:
  CudaKvCache(const KvCacheShape& shape, DeviceMemory memory) : shape_(shape), memory_(std::move(memory)) {}
  const KvCacheShape& shape() const override { return shape_; }
  size_t bytes() const override { return memory_.bytes(); }
  KvLayout layout() const {
    return {memory_.As<uint16_t>(), shape_.n_layers, shape_.n_blocks, shape_.n_kv_heads, shape_.head_dim};
  }

 private:
  const KvCacheShape shape_;
  const DeviceMemory memory_;
};

// A step: its plan on the host, its data on the device, its results.
class CudaStep final : public StepContext {
 public:
  static StatusOr<std::unique_ptr<CudaStep>> Create(const StepLimits& limits, const StepRoom& room,
                                                    AttentionItems items);
  ~CudaStep() override;

  // Memory to write the next upload to, once the copy that was made from it last is over.
  uint8_t* NextStaging();
  // Copies `bytes` of it to `to`, in the order of the stream.
  Status CopyStaging(size_t bytes, void* to, cudaStream_t stream);

  const StepLimits limits;
  StepPlan plan;
  AttentionItems items;
  int tile_vectors = 0;
  StepData data;
  int graph_rows = 0;  // > 0: the step is a graph for so many rows
  bool has_adapters = false;
  std::optional<StepSampling> sampling;  // of whole steps
  PinnedMemory sampling_data;
  Status error;                // what went wrong since the step began: the device is lost
  Status shortage;             // of memory for the step's results
  cudaEvent_t done = nullptr;  // behind the step and its results
  DeviceMemory region;         // of step data, where the step is no graph

 private:
  CudaStep(const StepLimits& limits, AttentionItems items)
      : limits(limits), plan(limits), items(std::move(items)) {}
  // Two, since the steps that a context serves follow each other before the first of them is over.
  struct Staging {
    PinnedMemory memory;
    cudaEvent_t copied = nullptr;
  };
  std::array<Staging, 2> staging_;
  size_t turn_ = 0;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_STEP_CONTEXT_H_
