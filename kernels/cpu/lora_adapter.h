#ifndef COTERIE_KERNELS_CPU_LORA_ADAPTER_H_
#define COTERIE_KERNELS_CPU_LORA_ADAPTER_H_

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/aligned_buffer.h"
#include "kernels/cpu/kernel_table.h"
#include "kernels/cpu/panels.h"
#include "kernels/lora.h"

namespace coterie::cpu {

// Modules that read the same input: Q K V, O, gate and up, down.
constexpr int kLoraInputCount = 4;
int LoraInputOf(LoraModule module);

// B of one module, which an adapter may lack (rank 0).
struct LoraB {
  int rank = 0;
  int n_out = 0;
  float scale = 0;
  int t_column = 0;                   // its first value in a row of stacked A x
  int q_column = 0;                   // 8 bit: its first code in a row of codes
  int first_block = 0;                // 8 bit: its first LoraBlock
  uint8_t* panels = nullptr;          // 8 bit: see LoraExpandArgs
  std::unique_ptr<CpuMatrix> matrix;  // as stored: [n_out, rank]
  float* arrow = nullptr;             // [rank], see arrow.h; null: packed without
};

constexpr int kMaxLoraRank = 1 << 16;

// A of the modules of one input, stacked.
struct LoraInput {
  int rank = 0;  // sum over the modules; 0: none is adapted
  int64_t n_in = 0;
  int n_codes = 0;                    // 8 bit: codes of t in a row, with each module's rounded up to 16
  int n_blocks = 0;                   // 8 bit: LoraBlocks of a row
  uint8_t* panels = nullptr;          // 8 bit: see LoraShrinkArgs; null: as stored
  std::unique_ptr<CpuMatrix> matrix;  // as stored: [rank, n_in]

  int64_t n_panels() const { return eight_bit() ? LoraShrinkPanels(rank) : matrix->n_panels(); }
  bool eight_bit() const { return panels != nullptr; }
};

struct LayerLora {
  std::array<LoraInput, kLoraInputCount> inputs;
  std::array<LoraB, kLoraModuleCount> b;
};

// How an adapter is packed.
struct LoraPacking {
  // Pairs that allow it (HostLora::quantise) and whose inputs are multiples of 32 are held in 8 bits; the
  // others as stored.
  bool eight_bits = false;
  bool arrow = false;  // with what arrow gates score by
};

// An adapter as steps read it. All of it is one piece of memory: what arrow gates read, then the pairs in the
// order of the forward pass (A of Q, K and V, their B; A of O, its B; and so on), so that steps read it front
// to back. Every offset follows from
// the modules, shapes and types of the pairs, so that another process can use a copy of the bytes.
class CpuAdapter final : public PackedAdapter {
 public:
  // InvalidArgument naming the layer whose pairs do not fit together;
  // ResourceExhausted naming the bytes that were not there.
  static StatusOr<std::unique_ptr<CpuAdapter>> Pack(std::span<const HostLora> pairs,
                                                    const LoraPacking& packing);
  // Restores an adapter from the weights() of one that was packed from `pairs`, whose data is not read.
  // InvalidArgument also when `weights` is not of the size these pairs take.
  static StatusOr<std::unique_ptr<CpuAdapter>> Copy(std::span<const HostLora> pairs,
                                                    const LoraPacking& packing,
                                                    std::span<const uint8_t> weights);

  size_t bytes() const override { return memory_.n_bytes(); }
  std::span<const uint8_t> weights() const override { return {memory_.data(), memory_.n_bytes()}; }
  // Null where the adapter changes nothing in this layer.
  const LayerLora* layer(size_t index) const { return index < layers_.size() ? &layers_[index] : nullptr; }

 private:
  struct Group;
  CpuAdapter() = default;
  StatusOr<std::vector<Group>> Plan(std::span<const HostLora* const> pairs, const LoraPacking& packing);
  static int64_t ArrowBytes(std::span<const Group> groups, const LoraPacking& packing);
  static int64_t BytesOf(std::span<const Group> groups, const LoraPacking& packing);
  Status Allocate(std::span<Group> groups, const LoraPacking& packing);
  void PlaceArrows(std::span<const Group> groups);

  std::vector<LayerLora> layers_;
  AlignedBuffer memory_;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_LORA_ADAPTER_H_
