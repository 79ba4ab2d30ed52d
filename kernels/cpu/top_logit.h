#ifndef COTERIE_KERNELS_CPU_TOP_LOGIT_H_
#define COTERIE_KERNELS_CPU_TOP_LOGIT_H_

#include <cstdint>

namespace coterie::cpu {

// One of the largest logits of a row.
struct TopLogit {
  float value = 0;
  int32_t id = 0;
};
// Their order: the larger value first, of equal ones the lower id.
inline bool Before(const TopLogit& a, const TopLogit& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}
constexpr int kMaxTopLogits = 64;  // of one row

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_TOP_LOGIT_H_
