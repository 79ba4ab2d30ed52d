#include "kernels/cpu/isa.h"

#include "common/quoted.h"
#include "kernels/formats/half.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace coterie::cpu {
namespace {

#if defined(__x86_64__)
// clang 14's __builtin_cpu_supports does not know the name "f16c".
bool HasF16c() {
  unsigned eax, ebx, ecx = 0, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

// The makers' manuals agree on the order of operations within vdpbf16ps, and every machine so far keeps it
// (simd_portable.h). One that did not would give other answers under the same numerics class.
bool MultipliesBfloat16InOurOrder(const KernelTable& table) {
  constexpr int kLanes = 256;
  alignas(64) uint16_t a[2 * kLanes], b[2 * kLanes];
  alignas(64) float y[kLanes], expected[kLanes];
  uint32_t state = 1;
  const auto draw = [&] { return state = state * 1664525u + 1013904223u; };
  // Magnitudes from 2^-8 to 2^7, so that products cancel and round.
  const auto value = [&] { return BitsToFloat((draw() & 0x807fffffu) | (119 + draw() % 16) << 23); };
  for (int i = 0; i < 2 * kLanes; ++i) {
    a[i] = RoundToBf16(value());
    b[i] = RoundToBf16(value());
  }
  for (int i = 0; i < kLanes; ++i) y[i] = expected[i] = value();
  table.dot_bf16(a, b, kLanes, y);
  PortableTable()->dot_bf16(a, b, kLanes, expected);
  for (int i = 0; i < kLanes; ++i) {
    if (FloatToBits(y[i]) != FloatToBits(expected[i])) return false;
  }
  return true;
}
#endif

}  // namespace

StatusOr<const KernelTable*> SelectKernels(std::string_view isa) {
  const std::vector<const KernelTable*> available = AvailableKernels();
  if (isa.empty()) return available.front();
  std::string names;
  for (const KernelTable* table : available) {
    if (isa == table->name) return table;
    absl::StrAppend(&names, names.empty() ? "" : ", ", table->name);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("instruction set ", Quoted(isa), " is not available here; there are: ", names));
}

std::vector<const KernelTable*> AvailableKernels() {
  std::vector<const KernelTable*> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vnni");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  static const bool in_order =
      bf16 && Avx512Bf16Table() != nullptr && MultipliesBfloat16InOurOrder(*Avx512Bf16Table());
  if (in_order) tables.push_back(Avx512Bf16Table());
  if (avx512 && Avx512Table() != nullptr) tables.push_back(Avx512Table());
  if (avx2 && Avx2Table() != nullptr) tables.push_back(Avx2Table());
  // The other flags that file is compiled with (kernels/CMakeLists.txt).
  const bool highway = avx2 && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                       __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
  if (highway && HighwayTable() != nullptr) tables.push_back(HighwayTable());
#elif defined(__aarch64__)
  const bool dot = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  if (dot && NeonDotTable() != nullptr) tables.push_back(NeonDotTable());
  if (HighwayTable() != nullptr) tables.push_back(HighwayTable());
#endif
  tables.push_back(PortableTable());
  return tables;
}

}  // namespace coterie::cpu
