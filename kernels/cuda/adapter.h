#ifndef COTERIE_KERNELS_CUDA_ADAPTER_H_
#define COTERIE_KERNELS_CUDA_ADAPTER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/pinned_pool.h"
#include "kernels/lora.h"

namespace coterie::cuda {

// An adapter in pinned host memory, as slots on the device take it: one piece of bfloat16 in the order of the
// forward pass, each A [rank, n_in] and B [n_out, rank] at a multiple of kMatrixAlignment, ranks filled up
// with zeros to a multiple of kLoraRankStep. Every offset follows from the shapes of the pairs.
class CudaAdapter final : public PackedAdapter {
 public:
  static constexpr size_t kMatrixAlignment = 128;

  // Where a pair lies in weights().
  struct Pair {
    int layer = 0;
    LoraModule module = LoraModule::kQ;
    int rank = 0;  // filled up
    int64_t n_in = 0, n_out = 0;
    float scale = 0;
    size_t a = 0, b = 0;  // bytes from the beginning
  };

  // InvalidArgument naming the layer whose pair does not fit; ResourceExhausted naming the bytes that were
  // not there.
  static StatusOr<std::unique_ptr<CudaAdapter>> Pack(std::span<const HostLora> pairs, PinnedPool* pool);
  // Restores an adapter from the weights() of one that was packed from `pairs`, whose data is not read.
  static StatusOr<std::unique_ptr<CudaAdapter>> Copy(std::span<const HostLora> pairs,
                                                     std::span<const uint8_t> weights, PinnedPool* pool);

  size_t bytes() const override { return memory_.bytes(); }
  std::span<const uint8_t> weights() const override { return {memory_.As<uint8_t>(), memory_.bytes()}; }
  std::span<const Pair> pairs() const { return pairs_; }

 private:
  static StatusOr<std::unique_ptr<CudaAdapter>> Make(std::span<const HostLora* const> sorted,
                                                     PinnedPool* pool);

  std::vector<Pair> pairs_;
  PinnedPool::Block memory_;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_ADAPTER_H_
