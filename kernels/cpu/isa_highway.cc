// Vectors of 128 bits where there is a fused multiply-add of them: NEON on every 64-bit Arm, and x86 compiled
// with the flags of AVX2 (kernels/CMakeLists.txt); empty elsewhere.
#include "kernels/cpu/kernel_table.h"

#if defined(__aarch64__) || (defined(__AVX2__) && defined(__FMA__) && defined(__BMI2__) && defined(__AES__))
#define COTERIE_ISA highway
#include "kernels/cpu/isa/simd_highway.h"
#include "kernels/cpu/isa/table.h"

namespace coterie::cpu {
namespace {
constexpr KernelTable kTable = highway::MakeTable("highway");
}  // namespace
const KernelTable* HighwayTable() { return &kTable; }
}  // namespace coterie::cpu
#else
namespace coterie::cpu {
const KernelTable* HighwayTable() { return nullptr; }
}  // namespace coterie::cpu
#endif
