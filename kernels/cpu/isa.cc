#include "kernels/cpu/isa.h"

namespace coterie::cpu {

StatusOr<const KernelTable*> SelectKernels(std::string_view isa) {
  const std::vector<const KernelTable*> available = AvailableKernels();
  if (isa.empty()) return available.front();
  std::string names;
  for (const KernelTable* table : available) {
    if (isa == table->name) return table;
    absl::StrAppend(&names, names.empty() ? "" : ", ", table->name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("instruction set '", ToAbsl(isa), "' is not available here; there are: ", names));
}

std::vector<const KernelTable*> AvailableKernels() {
  std::vector<const KernelTable*> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  if (avx512 && Avx512Table() != nullptr) tables.push_back(Avx512Table());
  if (avx2 && Avx2Table() != nullptr) tables.push_back(Avx2Table());
#endif
  tables.push_back(PortableTable());
  return tables;
}

}  // namespace coterie::cpu
