#ifndef COTERIE_TESTS_KERNELS_ORACLE_H_
#define COTERIE_TESTS_KERNELS_ORACLE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/lora.h"

// docs/numerics.md as plain scalar code: one value at a time, in the order written there. It shares nothing
// with the kernels but the coefficients of the elementary functions. Every kernel of every instruction set,
// with any number of threads and any neighbours in the batch, must give these bits.
namespace coterie::testing {
// The compiler's own binary16, to hold ours to.
#if defined(__aarch64__)
using Float16 = __fp16;
#else
using Float16 = _Float16;
#endif
}  // namespace coterie::testing

namespace coterie::testing::oracle {

float Exp(float x);
float Exp2Weight(float t);  // t <= 0
float Silu(float x);
float GeluTanh(float x);
float Erf(float x);

// x [d] -> y [d]
std::vector<float> RmsNorm(std::span<const float> x, std::span<const float> weight, float eps);
std::vector<float> LayerNorm(std::span<const float> x, std::span<const float> residual,
                             std::span<const float> weight, std::span<const float> bias, float eps);
std::vector<float> SwiGlu(std::span<const float> gate_up);
std::vector<float> GeGlu(std::span<const float> gate_up);
float Gelu(float x);
// x [rows, d] -> [d]
std::vector<float> MeanPoolNormalize(std::span<const float> x, int rows, int d);
float Dot(std::span<const float> a, std::span<const float> b);

// A weight w = d · code + m as its file's format says, with the numbers themselves for the fast mode.
struct WeightValue {
  float d;
  float m;
  bool has_m;
  int code;
};
WeightValue ReadWeight(const HostMatrix& matrix, int64_t row, int64_t k);  // quantised types, row of the file
float Dequantise(const HostMatrix& matrix, int64_t row, int64_t k);        // every type

// One output: x [n_in] times row `output` of the matrix (its row order applied), without bias.
float LinearExact(const HostMatrix& matrix, int64_t output, std::span<const float> x);
float LinearFast(const HostMatrix& matrix, int64_t output, std::span<const float> x);

// B (A x) of an adapter's pair in the fast mode, [b.n_out]; A and B are of a float type, A's inputs whole
// blocks of 32.
std::vector<float> LoraFast(const HostMatrix& a, const HostMatrix& b, std::span<const float> x);

// In place on one head.
void Rope(std::span<float> head, std::span<const float> cos, std::span<const float> sin);
float RoundKv(DType type, float x);

// Operands and steps of products of bfloat16 pairs.
float RoundBf16Operand(float x);
float DotBf16Pair(float acc, float a0, float a1, float b0, float b1);

// One query over keys and values [n][head_dim], of which it attends [lo, hi).
std::vector<float> Attend(std::span<const float> q, const std::vector<std::vector<float>>& keys,
                          const std::vector<std::vector<float>>& values, int lo, int hi, float scale);
// The same over a bfloat16 cache: keys and values are RoundBf16Operand's, q is not yet.
std::vector<float> AttendBf16(std::span<const float> q, const std::vector<std::vector<float>>& keys,
                              const std::vector<std::vector<float>>& values, int lo, int hi, float scale);

}  // namespace coterie::testing::oracle

#endif  // COTERIE_TESTS_KERNELS_ORACLE_H_
