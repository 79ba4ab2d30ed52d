#ifndef COTERIE_KERNELS_CUDA_STEP_UPLOAD_H_
#define COTERIE_KERNELS_CUDA_STEP_UPLOAD_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/step_data.h"
#include "kernels/step_plan.h"

namespace coterie::cuda {

// How many of each array's entries a region of step data has room for.
struct StepRoom {
  int tokens = 0;
  int seqs = 0;
  int logit_rows = 0;
  int lora_entries = 0;  // rows times their adapters; tiles are no more than that
  int block_changes = 0;
  int changed_blocks = 0;
  int items = 0;  // of attention
};

// The block changes of a step in device memory: Batch::block_changes.
struct StepBlocks {
  const int32_t* n_changes = nullptr;
  const BlocksChange* changes = nullptr;
  const int32_t* changed_blocks = nullptr;
};

// Where each array of a step lies in a region of memory, the same on the host, where it is written, and on
// the device. The last array is the one whose length varies most, so that a copy of what is used is one short
// piece.
class StepLayout {
 public:
  explicit StepLayout(const StepRoom& room);
  size_t bytes() const { return items_ + static_cast<size_t>(room_.items) * sizeof(AttentionItem); }

  // Whether all of the step fits.
  bool Holds(const StepPlan& plan, size_t n_items) const;
  // Writes the step to `host`; returns how many bytes from its beginning are to be copied.
  size_t Write(const StepPlan& plan, std::span<const AttentionItem> items, uint8_t* host) const;

  // The arrays at `device`. Leaves out what stays on the device from step to step.
  StepData DataAt(const uint8_t* device) const;
  StepBlocks BlocksAt(const uint8_t* device) const;

 private:
  struct Header {
    int32_t n_tokens, n_logit_rows, n_tiles, n_items, n_changes;
  };
  template <class T>
  size_t Place(int n);

  const StepRoom room_;
  size_t end_ = 0;
  size_t header_, token_ids_, positions_, sequences_, cu_seqlens_, seats_, logit_rows_, tiles_, lora_rows_,
      lora_weights_, changes_, changed_blocks_, items_;
};

// The room that a step takes.
StepRoom RoomOf(const StepPlan& plan, size_t n_items);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_STEP_UPLOAD_H_
