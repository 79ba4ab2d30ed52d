#ifndef COTERIE_KERNELS_CPU_ISA_TABLE_H_
#define COTERIE_KERNELS_CPU_ISA_TABLE_H_

#include "kernels/cpu/isa/attention.h"
#include "kernels/cpu/isa/linear.h"
#include "kernels/cpu/isa/math.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/kernel_table.h"

namespace coterie::cpu::COTERIE_ISA {

template <F (*kFunction)(F)>
inline void Map(const float* x, int64_t count, float* y) {
  ForVectors(count, [&](int64_t i, int n) { StoreUpTo(y + i, kFunction(LoadUpTo(x + i, n)), n); });
}

inline constexpr KernelTable MakeTable(const char* name) {
  return {.name = name,
          .quantise_rows = QuantiseRows,
          .linear = LinearPanels,
          .rms_norm = RmsNorm,
          .layer_norm = LayerNorm,
          .swiglu = SwiGlu,
          .gelu = Gelu,
          .rope_kv = RopeKv,
          .attend = Attend,
          .mean_pool_normalize = MeanPoolNormalize,
          .dot_rows = DotRows,
          .dot_rows_i8 = DotRowsI8,
          .exp = Map<Exp>,
          .erf = Map<Erf>,
          .silu = Map<Silu>};
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_TABLE_H_
