#include "router/dot.h"

#include <cstdint>
#include <cstring>

namespace coterie::router_internal {
namespace {

// Gcc's and clang's vector extension: sixteen lanes whatever the target, lowered to what it has.
// The element alignment lets it load from any float; may_alias from a float array.
typedef float Lanes __attribute__((vector_size(4 * kDotLanes), aligned(4), may_alias));

inline __attribute__((always_inline)) float Fold(const float* lanes) {
  float sums[kDotLanes];
  std::memcpy(sums, lanes, sizeof(sums));
  for (size_t half = kDotLanes / 2; half > 0; half /= 2) {
    for (size_t l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

// kRows rows at a time: each has its own chain of additions, so that they hide one another's latency, and a
// load of the query serves them all.
template <size_t kRows>
inline __attribute__((always_inline)) void DotBlock(const float* query, const float* rows, size_t stride,
                                                    float* out) {
  Lanes sums[kRows] = {};
  for (size_t i = 0; i < stride; i += kDotLanes) {
    const Lanes q = *reinterpret_cast<const Lanes*>(query + i);
    for (size_t r = 0; r < kRows; ++r) sums[r] += q * *reinterpret_cast<const Lanes*>(rows + r * stride + i);
  }
  for (size_t r = 0; r < kRows; ++r) out[r] = Fold(reinterpret_cast<const float*>(&sums[r]));
}

inline __attribute__((always_inline)) void DotAll(const float* query, const float* rows, size_t n_rows,
                                                  size_t stride, float* out) {
  size_t r = 0;
  for (; r + 4 <= n_rows; r += 4) DotBlock<4>(query, rows + r * stride, stride, out + r);
  for (; r < n_rows; ++r) DotBlock<1>(query, rows + r * stride, stride, out + r);
}

#if defined(__x86_64__)
__attribute__((target("avx512f"))) void DotAvx512(const float* query, const float* rows, size_t n_rows,
                                                  size_t stride, float* out) {
  DotAll(query, rows, n_rows, stride, out);
}
__attribute__((target("avx2"))) void DotAvx2(const float* query, const float* rows, size_t n_rows,
                                             size_t stride, float* out) {
  DotAll(query, rows, n_rows, stride, out);
}
#endif

}  // namespace

void DotRows(const float* query, const float* rows, size_t n_rows, size_t stride, float* out) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return DotAvx512(query, rows, n_rows, stride, out);
  if (__builtin_cpu_supports("avx2")) return DotAvx2(query, rows, n_rows, stride, out);
#endif
  DotAll(query, rows, n_rows, stride, out);
}

}  // namespace coterie::router_internal
