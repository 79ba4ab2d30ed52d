// Compiled without the thread sanitizer, as grid.cc is.
#include "warp_op.h"

#include <bit>

// The same code for wider registers. No sum is added up in another order by that.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(COTERIE_EMULATION_TSAN)
#define COTERIE_WIDE __attribute__((target_clones("avx2", "default")))
#else
#define COTERIE_WIDE
#endif

namespace coterie::emulation {
namespace {

float LowOf(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float HighOf(uint32_t pair) { return std::bit_cast<float>(pair & 0xFFFF0000u); }

// d [16, 8] = a [16, 16] · b [16, 8] + c over the fragments of PTX's mma.m16n8k16. An output's sum runs over
// k in ascending order: real tensor cores add in an order and a width of their own.
COTERIE_WIDE void MultiplyFragments(const std::array<const uint32_t*, kLanes>& in,
                                    const std::array<uint32_t*, kLanes>& out) {
  float a[16][16], b[16][8], d[16][8];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const uint32_t* const words = in[lane];
    const size_t g = lane / 4, t = lane % 4;
    for (size_t r = 0; r < 4; ++r) {
      const size_t row = g + 8 * (r % 2), column = 2 * t + 8 * (r / 2);
      a[row][column] = LowOf(words[r]);
      a[row][column + 1] = HighOf(words[r]);
      d[g + 8 * (r / 2)][2 * t + r % 2] = std::bit_cast<float>(words[6 + r]);
    }
    for (size_t r = 0; r < 2; ++r) {
      b[2 * t + 8 * r][g] = LowOf(words[4 + r]);
      b[2 * t + 8 * r + 1][g] = HighOf(words[4 + r]);
    }
  }
  for (auto m = 0; m < 16; ++m) {
    float sums[8];
    for (int n = 0; n < 8; ++n) sums[n] = d[m][n];
    for (int k = 0; k < 16; ++k) {
      for (int n = 0; n < 8; ++n) sums[n] += a[m][k] * b[k][n];
    }
    for (int n = 0; n < 8; ++n) d[m][n] = sums[n];
  }
  for (size_t lane = 0; lane < kLanes; ++lane) {
    const size_t g = lane / 4, t = lane % 4;
    for (size_t r = 0; r < 4; ++r) out[lane][r] = std::bit_cast<uint32_t>(d[g + 8 * (r / 2)][2 * t + r % 2]);
  }
}

// Row r of matrix m was loaded by lane 8 m + r: its 8 values.
void SpreadMatrices(const Warp& warp, bool transposed) {
  uint32_t rows[kLanes][4];
  for (size_t lane = 0; lane < kLanes; ++lane) {
    for (size_t i = 0; i < 4; ++i) rows[lane][i] = warp.in[lane][i];
  }
  for (size_t matrix = 0; matrix < 4; ++matrix) {
    const auto value = [&](size_t row, size_t i) {
      return rows[matrix * 8 + row][i / 2] >> (i % 2 * 16) & 0xFFFFu;
    };
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const size_t g = lane / 4, t = lane % 4;
      warp.out[lane][matrix] =
          transposed ? value(2 * t, g) | value(2 * t + 1, g) << 16 : rows[matrix * 8 + g][t];
    }
  }
}

}  // namespace

void Compute(Warp& warp, int n_out) {
  switch (warp.op) {
    case WarpOp::kBarrier:
      return;
    case WarpOp::kShuffle:
      for (size_t lane = 0; lane < kLanes; ++lane) {
        const uint32_t* const from = warp.in[warp.in[lane][0] % kLanes];
        for (int i = 0; i < n_out; ++i) warp.out[lane][i] = from[1 + i];
      }
      return;
    case WarpOp::kBallot: {
      uint32_t votes = 0;
      for (size_t lane = 0; lane < kLanes; ++lane) votes |= *warp.in[lane] << lane;
      for (uint32_t* out : warp.out) *out = votes;
      return;
    }
    case WarpOp::kMmaBf16:
      return MultiplyFragments(warp.in, warp.out);
    case WarpOp::kLoadMatrices:
      return SpreadMatrices(warp, false);
    case WarpOp::kLoadMatricesTransposed:
      return SpreadMatrices(warp, true);
  }
}

}  // namespace coterie::emulation
