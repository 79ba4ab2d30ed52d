// Compiled with the flags of AVX2, FMA and F16C (kernels/CMakeLists.txt); empty elsewhere.
#include "kernels/cpu/kernel_table.h"

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "kernels/cpu/isa/simd_avx2.h"
#define COTERIE_ISA avx2
#include "kernels/cpu/isa/table.h"
// Products of its own, in terms of the others'.
#include "kernels/cpu/isa/linear_avx2.h"

namespace coterie::cpu {
namespace {
constexpr KernelTable MakeTable() {
  KernelTable table = avx2::MakeTable("avx2");
  table.linear = avx2::LinearPanelsAvx2;
  return table;
}
constexpr KernelTable kTable = MakeTable();
}  // namespace
const KernelTable* Avx2Table() { return &kTable; }
}  // namespace coterie::cpu
#else
namespace coterie::cpu {
const KernelTable* Avx2Table() { return nullptr; }
}  // namespace coterie::cpu
#endif
