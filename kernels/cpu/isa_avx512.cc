// Compiled with the flags of AVX-512 with VNNI (kernels/CMakeLists.txt); empty elsewhere.
#include "kernels/cpu/kernel_table.h"

#if defined(__AVX512VNNI__)
#define COTERIE_ISA avx512
#include "kernels/cpu/isa/simd_avx512.h"
#include "kernels/cpu/isa/table.h"

namespace coterie::cpu {
namespace {
constexpr KernelTable kTable = avx512::MakeTable("avx512");
}  // namespace
const KernelTable* Avx512Table() { return &kTable; }
}  // namespace coterie::cpu
#else
namespace coterie::cpu {
const KernelTable* Avx512Table() { return nullptr; }
}  // namespace coterie::cpu
#endif
