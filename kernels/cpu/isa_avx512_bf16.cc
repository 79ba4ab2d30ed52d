// The same kernels for machines that multiply bfloat16 as well (Zen 4, Sapphire Rapids and later): half the
// operations in attention.
#include "kernels/cpu/kernel_table.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)
#define COTERIE_ISA avx512_bf16
#include "kernels/cpu/isa/simd_avx512.h"
#include "kernels/cpu/isa/table.h"

namespace coterie::cpu {
namespace {
constexpr KernelTable kTable = avx512_bf16::MakeTable("avx512_bf16");
}  // namespace
const KernelTable* Avx512Bf16Table() { return &kTable; }
}  // namespace coterie::cpu
#else
namespace coterie::cpu {
const KernelTable* Avx512Bf16Table() { return nullptr; }
}  // namespace coterie::cpu
#endif
