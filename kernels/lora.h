#ifndef COTERIE_KERNELS_LORA_H_
#define COTERIE_KERNELS_LORA_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "kernels/device.h"

namespace coterie {

// The linear layers an adapter may change. Q, K and V read the same input, as do gate and up; the fused
// products of those groups are laid side by side in their output rows. Where the base's own files fuse them
// (Phi-3), the group is one module, kQkv or kGateUp, with one A.
enum class LoraModule : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown, kQkv, kGateUp };
constexpr int kLoraModuleCount = 9;

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

// All pairs of one adapter, packed in host memory as its device wants them. Immutable: steps may read it
// while other threads pack further adapters.
class PackedAdapter {
 public:
  virtual ~PackedAdapter() = default;
  virtual size_t bytes() const = 0;
  // All of it as bytes in host memory, laid out as DecoderOps::adapter_layout says: what CopyAdapter takes.
  virtual std::span<const uint8_t> weights() const = 0;
};

// Adapters where steps read them, by slot. Used by the thread of the steps alone.
class AdapterSlots {
 public:
  virtual ~AdapterSlots() = default;
  virtual int n_slots() const = 0;
  // Starts copying an adapter into an empty slot and returns at once. The slot refers to it until Clear.
  virtual void Fill(int slot, std::shared_ptr<const PackedAdapter> adapter) = 0;
  // Why the adapter could not be copied: ResourceExhausted where the device has no memory for it just now. No
  // step may use the slot then; it is to be cleared.
  virtual Status Error(int /*slot*/) const { return absl::OkStatus(); }
  // Whether steps may use the slot by now; never waits.
  virtual bool Ready(int slot) const = 0;
  // Empties the slot, which no step in flight may use.
  virtual void Clear(int slot) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_LORA_H_
