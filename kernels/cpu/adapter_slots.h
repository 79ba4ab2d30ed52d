#ifndef COTERIE_KERNELS_CPU_ADAPTER_SLOTS_H_
#define COTERIE_KERNELS_CPU_ADAPTER_SLOTS_H_

#include <memory>
#include <utility>
#include <vector>

#include "kernels/lora.h"

namespace coterie::cpu {

// Steps on the CPU read adapters from host memory: a slot is a pointer.
class CpuAdapterSlots final : public AdapterSlots {
 public:
  explicit CpuAdapterSlots(int n_slots) : adapters_(static_cast<size_t>(n_slots)) {}

  int n_slots() const override { return static_cast<int>(adapters_.size()); }
  void Fill(int slot, std::shared_ptr<const PackedAdapter> adapter) override {
    adapters_.at(static_cast<size_t>(slot)) = std::move(adapter);
  }
  bool Ready(int) const override { return true; }
  void Clear(int slot) override { adapters_.at(static_cast<size_t>(slot)).reset(); }
  const PackedAdapter* At(int32_t slot) const { return adapters_.at(static_cast<size_t>(slot)).get(); }

 private:
  std::vector<std::shared_ptr<const PackedAdapter>> adapters_;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_ADAPTER_SLOTS_H_
