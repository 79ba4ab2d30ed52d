#include "kernels/batch.h"

namespace coterie {

void Batch::Clear() {
  token_ids.clear();
  positions.clear();
  cu_seqlens.assign(1, 0);
  block_offsets.assign(1, 0);
  block_ids.clear();
  adapter_offsets.assign(1, 0);
  adapter_slots.clear();
  adapter_weights.clear();
  adapters.clear();
  logit_rows.clear();
}

}  // namespace coterie
