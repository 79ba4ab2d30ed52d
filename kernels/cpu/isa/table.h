#ifndef COTERIE_KERNELS_CPU_ISA_TABLE_H_
#define COTERIE_KERNELS_CPU_ISA_TABLE_H_

// Comes after the instruction set's own simd_*.h and before the kernels, which use both.
#include "kernels/cpu/isa/simd_plain.h"
// The kernels.
#include "kernels/cpu/isa/attention.h"
#include "kernels/cpu/isa/linear.h"
#include "kernels/cpu/isa/lora.h"
#include "kernels/cpu/isa/math.h"
#include "kernels/cpu/isa/quantise.h"
#include "kernels/cpu/isa/rope_kv.h"
#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/isa/top.h"
#include "kernels/cpu/kernel_table.h"

namespace coterie::cpu::COTERIE_ISA {

template <F (*kFunction)(F)>
inline void Map(const float* x, int64_t count, float* y) {
  ForVectors(count, [&](int64_t i, int n) { StoreUpTo(y + i, kFunction(LoadUpTo(x + i, n)), n); });
}

inline void RoundAllToBf16(const float* x, int64_t n, uint16_t* y) {
  for (int64_t i = 0; i < n; i += 16) RoundToBf16(y + i, Load(x + i));
}
inline void DotAllBf16(const uint16_t* a, const uint16_t* b, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += 16) Store(y + i, DotBf16(Load(y + i), LoadI(a + 2 * i), LoadI(b + 2 * i)));
}

inline constexpr KernelTable MakeTable(const char* name) {
  return {.name = name,
          .wide_rows = kWideRows,
          .wide_panels = kWideTilePanels,
          .quantise = Quantise,
          .linear = LinearPanels,
          .skip_at_most = SkipAtMost,
          .shrink_lora = ShrinkLora,
          .quantise_lora = QuantiseLora,
          .expand_lora = ExpandLora,
          .rms_norm = RmsNorm,
          .layer_norm = LayerNorm,
          .add_rms_norm = AddRmsNorm,
          .swiglu = GatedUnit<Silu>,
          .geglu = GatedUnit<GeluTanh>,
          .gelu = Gelu,
          .rope_kv = RopeKv,
          .write_kv = WriteKv,
          .attend = Attend,
          .mean_pool_normalize = MeanPoolNormalize,
          .dot_rows = DotRows,
          .exp = Map<Exp>,
          .erf = Map<Erf>,
          .exp2_weight = Map<Exp2Weight>,
          .silu = Map<Silu>,
          .gelu_tanh = Map<GeluTanh>,
          .round_bf16 = RoundAllToBf16,
          .dot_bf16 = DotAllBf16};
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_TABLE_H_
