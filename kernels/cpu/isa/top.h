#ifndef COTERIE_KERNELS_CPU_ISA_TOP_H_
#define COTERIE_KERNELS_CPU_ISA_TOP_H_

#include <cstdint>

// Finds the largest logits of a row (LinearTop). Comparisons alone: there is nothing to round.
namespace coterie::cpu::COTERIE_ISA {

// Most of a row is skipped, 64 values at a time: the compiler vectorises the inner loop.
inline int64_t SkipAtMost(const float* y, int64_t n, float most) {
  constexpr int kGroup = 64;
  constexpr float kLeast = -0x1.fffffep127f;  // of the finite ones
  int64_t i = 0;
  for (; i + kGroup <= n; i += kGroup) {
    int others = 0;
    for (int j = 0; j < kGroup; ++j) others |= (y[i + j] <= most ? 0 : 1) | (y[i + j] >= kLeast ? 0 : 1);
    if (others != 0) break;
  }
  while (i < n && y[i] <= most && y[i] >= kLeast) ++i;
  return i;
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_TOP_H_
