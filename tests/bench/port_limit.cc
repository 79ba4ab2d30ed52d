#include "tests/bench/port_limit.h"

#include "tests/bench/harness.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#endif

namespace coterie::bench {

#if defined(__x86_64__)
namespace {

constexpr int kChains = 4;
constexpr int kBlocks = 2'000;  // 10 to 20 microseconds: some of many runs are not interrupted
constexpr int kRuns = 400;

// Keeps `v` in a register, and the compiler from knowing what is in it.
[[gnu::target("avx2"), gnu::always_inline]] inline void Hold(__m256i* v) { asm volatile("" : "+x"(*v)); }

// Blocks of 32 values in 8 outputs for kChains rows.
template <int kProductsPerSum>
[[gnu::target("avx2"), gnu::noinline]] void MultiplyBlocks() {
  __m256i codes = _mm256_set1_epi8(3), ones = _mm256_set1_epi16(1);
  const __m256i x = _mm256_set1_epi8(5);
  __m256i sums[kChains] = {}, narrow[kChains] = {};
  for (int block = 0; block < kBlocks; ++block) {
#pragma GCC unroll 16
    for (int step = 0; step < (kProductsPerSum == 0 ? 16 : 8); ++step) {
#pragma GCC unroll 4
      for (int i = 0; i < kChains; ++i) {
        Hold(&codes);
        if constexpr (kProductsPerSum == 0) {
          sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(codes, x));
          Hold(&sums[i]);
        } else {
          const __m256i product = _mm256_maddubs_epi16(codes, x);
          narrow[i] = step % kProductsPerSum == 0 ? product : _mm256_add_epi16(narrow[i], product);
          Hold(&narrow[i]);
          if ((step + 1) % kProductsPerSum != 0) continue;
          sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(narrow[i], ones));
          Hold(&sums[i]);
        }
      }
    }
  }
}

}  // namespace

double PortLimitGmacPerSecond(int products_per_sum) {
  if (!__builtin_cpu_supports("avx2")) return 0;
  const auto run = products_per_sum == 0   ? MultiplyBlocks<0>
                   : products_per_sum == 2 ? MultiplyBlocks<2>
                   : products_per_sum == 4 ? MultiplyBlocks<4>
                                           : MultiplyBlocks<8>;
  double best_us = MicrosecondsOf(run);
  for (int i = 0; i < kRuns; ++i) best_us = std::min(best_us, MicrosecondsOf(run));
  return 8.0 * 32 * kChains * kBlocks / best_us / 1e3;
}
#else
double PortLimitGmacPerSecond(int) { return 0; }
#endif

}  // namespace coterie::bench
