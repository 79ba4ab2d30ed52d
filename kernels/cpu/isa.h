#ifndef COTERIE_KERNELS_CPU_ISA_H_
#define COTERIE_KERNELS_CPU_ISA_H_

#include <string_view>
#include <vector>

#include "common/status.h"
#include "kernels/cpu/kernel_table.h"

namespace coterie::cpu {

// The tables this build and this machine can run, fastest first; never empty ("portable" is always there).
std::vector<const KernelTable*> AvailableKernels();

// The fastest for "", else the one named; InvalidArgument naming those available.
StatusOr<const KernelTable*> SelectKernels(std::string_view isa);

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_ISA_H_
