#include <algorithm>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/lora_adapter.h"

namespace coterie::cpu {

CpuStep::CpuStep(const StepLimits& limits) : plan_(limits) {
  if (limits.vocab_size == 0) return;
  const auto rows = static_cast<size_t>(limits.max_logit_rows);
  keep.reserve(rows);
  top.reserve(rows * static_cast<size_t>(std::min(kMaxTopLogits, limits.vocab_size)));
  output.Reserve(limits.max_logit_rows);
  // Left to the first use: most steps have few rows, or need none of them in full.
  logits = AlignedBuffer(rows * static_cast<size_t>(limits.vocab_size) * sizeof(float),
                         AlignedBuffer::Pages::kLater);
}

void CpuStep::Begin(const Batch& batch, const CpuSeats& seats, const CpuAdapterSlots& slots) {
  plan_.Begin(batch, seats.blocks, seats.sampled);
  slots_ = &slots;
  output.Clear();
}

const CpuAdapter& CpuStep::AdapterOf(const LoraGroup& group) const {
  const PackedAdapter* adapter = slots_->At(group.slot);
  COTERIE_CHECK(adapter != nullptr) << "adapter slot " << group.slot << " is empty";
  return static_cast<const CpuAdapter&>(*adapter);
}

void CpuBackend::BeginStep(StepContext* step, const Batch& batch, Seats* seats, const AdapterSlots& slots) {
  auto* cpu_seats = static_cast<CpuSeats*>(seats);
  cpu_seats->blocks.Apply(batch);
  static_cast<CpuStep*>(step)->Begin(batch, *cpu_seats, static_cast<const CpuAdapterSlots&>(slots));
}

}  // namespace coterie::cpu
