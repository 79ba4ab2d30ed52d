// Compiled for the baseline of the build: the kernels of any machine.
#include "kernels/cpu/isa/simd_portable.h"
#define COTERIE_ISA portable
#include "kernels/cpu/isa/table.h"

namespace coterie::cpu {
namespace {
constexpr KernelTable kTable = portable::MakeTable("portable");
}  // namespace
const KernelTable* PortableTable() { return &kTable; }
}  // namespace coterie::cpu
