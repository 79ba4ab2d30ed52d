// The kernels of isa_highway.cc for Arm with the dot product of bytes (Armv8.2 and later); empty elsewhere.
#include "kernels/cpu/kernel_table.h"

#if defined(__ARM_FEATURE_DOTPROD)
#define COTERIE_ISA neon_dot
#include "kernels/cpu/isa/simd_highway.h"
#include "kernels/cpu/isa/table.h"

namespace coterie::cpu {
namespace {
constexpr KernelTable kTable = neon_dot::MakeTable("neon_dot");
}  // namespace
const KernelTable* NeonDotTable() { return &kTable; }
}  // namespace coterie::cpu
#else
namespace coterie::cpu {
const KernelTable* NeonDotTable() { return nullptr; }
}  // namespace coterie::cpu
#endif
