#ifndef COTERIE_KERNELS_CUDA_ADAPTER_SLOTS_H_
#define COTERIE_KERNELS_CUDA_ADAPTER_SLOTS_H_

#include <cuda_runtime.h>

#include <memory>
#include <vector>

#include "kernels/cuda/adapter.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/step_data.h"

namespace coterie::cuda {

// Adapters in device memory. Each slot's copy runs on a stream of its own, beside the steps, and its entries
// of the table of pairs come last: what Ready polls is an event behind them. The memory is reserved
// beforehand, as much as all adapters in host memory may take together, so that Fill finds room.
class CudaAdapterSlots final : public AdapterSlots {
 public:
  // `n_layers`: rows of the table for each slot. `reserved_bytes`: of device memory, for adapters.
  static StatusOr<std::unique_ptr<CudaAdapterSlots>> Create(int n_slots, int n_layers, size_t reserved_bytes);
  ~CudaAdapterSlots() override;

  int n_slots() const override { return static_cast<int>(slots_.size()); }
  void Fill(int slot, std::shared_ptr<const PackedAdapter> adapter) override;
  bool Ready(int slot) const override;
  Status Error(int slot) const override { return slots_.at(static_cast<size_t>(slot)).error; }
  void Clear(int slot) override;

  // Not OK once the device was lost at a copy; the slot then counts as ready, and no step may run.
  const Status& status() const { return status_; }
  const LoraPair* pairs() const { return table_.As<LoraPair>(); }  // device: see LoraWork
  int n_layers() const { return n_layers_; }

 private:
  struct Slot {
    std::shared_ptr<const PackedAdapter> adapter;  // its pinned memory is read until the copy is done
    void* memory = nullptr;                        // of the pool
    Status error;                                  // why the adapter is not there
    cudaEvent_t arrived = nullptr;
  };
  CudaAdapterSlots(int n_slots, int n_layers) : n_layers_(n_layers), slots_(static_cast<size_t>(n_slots)) {}
  Status Copy(int slot, const CudaAdapter& from);
  size_t TableBytes() const { return static_cast<size_t>(n_layers_) * kLoraModuleCount * sizeof(LoraPair); }

  const int n_layers_;
  int device_ = 0;  // the current one when they were made; threads of others begin with device 0
  Status status_;
  std::vector<Slot> slots_;
  cudaStream_t stream_ = nullptr;
  DeviceMemory table_;  // [n_slots, n_layers, kLoraModuleCount] of LoraPair
  PinnedMemory rows_;   // the same, where a slot's rows are made
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_ADAPTER_SLOTS_H_
