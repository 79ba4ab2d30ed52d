#ifndef COTERIE_KERNELS_CPU_LORA_USE_H_
#define COTERIE_KERNELS_CPU_LORA_USE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/lora_adapter.h"

namespace coterie::cpu {

// A row group at one product of the graph.
struct CpuBackend::LoraUse {
  const LoraGroup* group;
  const LayerLora* layer;
  const LoraInput* input;
  float* t;           // [rows of the group, input.rank]
  int8_t* q;          // [rows of the group, input.n_codes]
  LoraBlock* blocks;  // [rows of the group, input.n_blocks]
  float* weights;     // [targets, rows of the group] in steps with gates; null: group->weights at each target

  float* WeightsAt(size_t target) const { return weights + target * group->rows.size(); }
  // The rows of the group within [begin, end) of the batch, as indices into group->rows.
  std::pair<size_t, size_t> RowsWithin(int32_t begin, int32_t end) const {
    const std::span<const int32_t> rows = group->rows;
    const auto first = std::lower_bound(rows.begin(), rows.end(), begin);
    const auto last = std::lower_bound(first, rows.end(), end);
    return {static_cast<size_t>(first - rows.begin()), static_cast<size_t>(last - rows.begin())};
  }
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_LORA_USE_H_
