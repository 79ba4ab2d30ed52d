#include "tests/kernels/oracle.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/math_constants.h"

namespace coterie::testing::oracle {
namespace {

float ReadHalf(const uint8_t* p) {
  Float16 h;
  std::memcpy(&h, p, 2);
  return static_cast<float>(h);
}

// Lane l holds elements l, l + 16, ...; then l + (l+8), + (l+4), + (l+2), + (l+1).
float Tree(float lanes[16]) {
  for (int half = 8; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) lanes[l] = lanes[l] + lanes[l + half];
  }
  return lanes[0];
}

float SumOfSquares(std::span<const float> x) { return Dot(x, x); }

int KScale(const uint8_t* p, int j) { return j < 4 ? p[j] & 63 : (p[j + 4] & 15) | (p[j - 4] >> 6 << 4); }
int KMin(const uint8_t* p, int j) { return j < 4 ? p[j + 4] & 63 : (p[j + 4] >> 4) | (p[j] >> 6 << 4); }

}  // namespace

float Exp(float x) {
  using namespace cpu;
  x = x < kExpHighest ? x : std::isnan(x) ? x : kExpHighest;
  x = x > kExpLowest ? x : std::isnan(x) ? x : kExpLowest;
  if (std::isnan(x)) return x;
  const float n = std::nearbyint(x * kLog2E);
  float r = std::fma(n, -kLn2High, x);
  r = std::fma(n, -kLn2Low, r);
  float p = kExpPoly[4];
  for (int i = 3; i >= 0; --i) p = std::fma(p, r, kExpPoly[i]);
  p = std::fma(r * r, p, r) + 1.0f;
  const int half = static_cast<int>(std::floor(n / 2));
  const float step = p * std::ldexp(1.0f, half);
  return step * std::ldexp(1.0f, static_cast<int>(n) - half);
}

float Exp2Weight(float t) {
  using namespace cpu;
  if (std::isnan(t)) return t;
  t = std::max(t, kExp2Lowest);
  const float n = std::nearbyint(t);
  const float f = t - n;
  float p = kExp2Poly[3];
  for (int i = 2; i >= 0; --i) p = std::fma(p, f, kExp2Poly[i]);
  return std::ldexp(std::fma(p, f, 1.0f), static_cast<int>(n));
}

float Silu(float x) { return x / (1.0f + Exp(0.0f - x)); }

float GeluTanh(float x) {
  const float slope = std::fma(x * x, cpu::kGeluTanhCubic, cpu::kGeluTanhLinear);
  return x / (1.0f + Exp(0.0f - x * slope));
}

float Erf(float x) {
  using namespace cpu;
  const float a = std::fabs(x);
  if (a > kErfSplit) {
    const float c = std::min(a, 4.0f);
    float p = kErfLarge[8];
    for (int i = 7; i >= 0; --i) p = std::fma(p, c, kErfLarge[i]);
    const float e = 1.0f - Exp(0.0f - p);
    return x < 0 ? -e : e;
  }
  const float z = x * x;
  float p = kErfSmall[6];
  for (int i = 5; i >= 0; --i) p = std::fma(p, z, kErfSmall[i]);
  return x * p;
}

float Dot(std::span<const float> a, std::span<const float> b) {
  float lanes[16] = {};
  for (size_t i = 0; i < a.size(); ++i) lanes[i % 16] = std::fma(a[i], b[i], lanes[i % 16]);
  return Tree(lanes);
}

std::vector<float> RmsNorm(std::span<const float> x, std::span<const float> weight, float eps) {
  const float inverse = 1.0f / std::sqrt(SumOfSquares(x) / static_cast<float>(x.size()) + eps);
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = (x[i] * inverse) * weight[i];
  return y;
}

std::vector<float> LayerNorm(std::span<const float> x, std::span<const float> residual,
                             std::span<const float> weight, std::span<const float> bias, float eps) {
  std::vector<float> y(x.begin(), x.end());
  float lanes[16] = {};
  for (size_t i = 0; i < y.size(); ++i) {
    if (!residual.empty()) y[i] = y[i] + residual[i];
    lanes[i % 16] = lanes[i % 16] + y[i];
  }
  const float n = static_cast<float>(y.size());
  const float mean = Tree(lanes) / n;
  for (float& v : y) v = v - mean;
  const float inverse = 1.0f / std::sqrt(SumOfSquares(y) / n + eps);
  for (size_t i = 0; i < y.size(); ++i) y[i] = std::fma(y[i] * inverse, weight[i], bias[i]);
  return y;
}

std::vector<float> SwiGlu(std::span<const float> gate_up) {
  const size_t f = gate_up.size() / 2;
  std::vector<float> h(f);
  for (size_t i = 0; i < f; ++i) h[i] = Silu(gate_up[i]) * gate_up[f + i];
  return h;
}

std::vector<float> GeGlu(std::span<const float> gate_up) {
  const size_t f = gate_up.size() / 2;
  std::vector<float> h(f);
  for (size_t i = 0; i < f; ++i) h[i] = GeluTanh(gate_up[i]) * gate_up[f + i];
  return h;
}

float Gelu(float x) { return (x * 0.5f) * (1.0f + Erf(x * 0.707106769f)); }

std::vector<float> MeanPoolNormalize(std::span<const float> x, int rows, int d) {
  std::vector<float> y(static_cast<size_t>(d));
  for (int i = 0; i < d; ++i) {
    float sum = 0;
    for (int row = 0; row < rows; ++row) sum = sum + x[static_cast<size_t>(row * d + i)];
    y[static_cast<size_t>(i)] = sum / static_cast<float>(rows);
  }
  const float length = std::max(std::sqrt(SumOfSquares(y)), 1e-12f);
  for (float& v : y) v = v / length;
  return y;
}

WeightValue ReadWeight(const HostMatrix& matrix, int64_t row, int64_t k) {
  const int64_t size = BlockElements(matrix.dtype);
  const uint8_t* p =
      matrix.data + row * RowBytes(matrix.dtype, matrix.n_in) + k / size * BlockBytes(matrix.dtype);
  const int i = static_cast<int>(k % size);
  const auto nibble = [&](const uint8_t* q) { return i % 32 < 16 ? q[i % 16] & 15 : q[i % 16] >> 4; };
  const auto fifth = [&](const uint8_t* q) { return (q[i / 8] >> (i % 8) & 1) << 4; };
  switch (matrix.dtype) {
    case DType::kQ8_0:
      return {ReadHalf(p), 0, false, static_cast<int8_t>(p[2 + i])};
    case DType::kQ4_0:
      return {ReadHalf(p), 0, false, nibble(p + 2) - 8};
    case DType::kQ4_1:
      return {ReadHalf(p), ReadHalf(p + 2), true, nibble(p + 4)};
    case DType::kQ5_0:
      return {ReadHalf(p), 0, false, (nibble(p + 6) | fifth(p + 2)) - 16};
    case DType::kQ5_1:
      return {ReadHalf(p), ReadHalf(p + 2), true, nibble(p + 8) | fifth(p + 4)};
    case DType::kQ4_K:
    case DType::kQ5_K: {
      const bool five = matrix.dtype == DType::kQ5_K;
      const uint8_t* q = p + (five ? 48 : 16) + i / 64 * 32 + i % 32;
      int code = i / 32 % 2 == 0 ? *q & 15 : *q >> 4;
      if (five) code |= (p[16 + i % 32] >> (i / 32) & 1) << 4;
      return {ReadHalf(p) * static_cast<float>(KScale(p + 4, i / 32)),
              -(ReadHalf(p + 2) * static_cast<float>(KMin(p + 4, i / 32))), true, code};
    }
    case DType::kQ3_K: {
      const int pair = p[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
      const int high = p[i % 32] >> (i / 32) & 1;
      const int group = i / 16;
      const int low_scale = group < 8 ? p[96 + group] & 15 : p[88 + group] >> 4;
      const int high_scale = p[104 + group % 4] >> (group / 4 * 2) & 3;
      return {ReadHalf(p + 108) * static_cast<float>((low_scale | high_scale << 4) - 32), 0, false,
              pair - (high == 1 ? 0 : 4)};
    }
    case DType::kIQ4_NL: {
      constexpr int kValues[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
      return {ReadHalf(p), 0, false, kValues[nibble(p + 2)]};
    }
    case DType::kQ6_K: {
      const int in_half = i % 128;
      const uint8_t low = p[i / 128 * 64 + in_half % 64];
      const uint8_t high = p[128 + i / 128 * 32 + in_half % 32];
      const int code = (in_half < 64 ? low & 15 : low >> 4) | (high >> (in_half / 32 * 2) & 3) << 4;
      const int scale = static_cast<int8_t>(p[192 + i / 16]);
      return {ReadHalf(p + 208) * static_cast<float>(scale), 0, false, code - 32};
    }
    default:
      return {};
  }
}

float Dequantise(const HostMatrix& matrix, int64_t row, int64_t k) {
  const uint8_t* p = matrix.data + row * RowBytes(matrix.dtype, matrix.n_in);
  if (matrix.dtype == DType::kF32) {
    float v;
    std::memcpy(&v, p + 4 * k, 4);
    return v;
  }
  if (matrix.dtype == DType::kF16) return ReadHalf(p + 2 * k);
  if (matrix.dtype == DType::kBF16) {
    uint16_t v;
    std::memcpy(&v, p + 2 * k, 2);
    return std::bit_cast<float>(static_cast<uint32_t>(v) << 16);
  }
  const WeightValue w = ReadWeight(matrix, row, k);
  const float product = w.d * static_cast<float>(w.code);
  return w.has_m ? product + w.m : product;
}

namespace {
int64_t SourceRow(const HostMatrix& matrix, int64_t output) {
  return matrix.row_order.empty() ? output : matrix.row_order[static_cast<size_t>(output)];
}
}  // namespace

float LinearExact(const HostMatrix& matrix, int64_t output, std::span<const float> x) {
  const int64_t row = SourceRow(matrix, output);
  float acc = 0;
  for (int64_t k = 0; k < matrix.n_in; ++k) {
    acc = std::fma(Dequantise(matrix, row, k), x[static_cast<size_t>(k)], acc);
  }
  return acc;
}

namespace {
struct Activations {
  float scale;
  int q[32];  // with the zero point added back
  int sum;
};
Activations QuantiseActivations(std::span<const float> x) {
  float highest = 0;
  float lowest = 0;
  for (const float v : x) {
    highest = std::max(highest, v);
    lowest = std::min(lowest, v);
  }
  const float range = highest - lowest;
  const bool empty = range < 0x1p-100f;
  const float inverse = empty ? 0 : 254.0f / range;
  const int zero = static_cast<int>(std::nearbyint((highest + lowest) * 0.5f * inverse));
  Activations to = {empty ? 0 : range / 254.0f, {}, 0};
  for (size_t i = 0; i < 32; ++i) {
    const int rounded = static_cast<int>(std::nearbyint(x[i] * inverse));
    to.q[i] = std::clamp(rounded - zero, -128, 127) + zero;
    to.sum += to.q[i];
  }
  return to;
}

// Up to 32 values of A, B or t: value = d * c, c in [-127, 127].
struct EightBits {
  float d;
  std::vector<int> c;
};
float MostOf(std::span<const float> values) {
  float most = 0;
  for (const float v : values) most = std::max(most, std::fabs(v));
  return most < 0x1p-100f ? 0 : most;
}
int Code(float scaled) { return std::clamp(static_cast<int>(std::nearbyint(scaled)), -127, 127); }
EightBits LoraWeights(const HostMatrix& matrix, int64_t row, int64_t begin) {
  std::vector<float> values;
  for (int64_t k = begin; k < std::min(begin + 32, matrix.n_in); ++k)
    values.push_back(Dequantise(matrix, row, k));
  EightBits to = {RoundKv(DType::kBF16, MostOf(values) / 127.0f), {}};
  for (const float v : values) to.c.push_back(to.d == 0 ? 0 : Code(v / to.d));
  return to;
}
}  // namespace

std::vector<float> LoraFast(const HostMatrix& a, const HostMatrix& b, std::span<const float> x) {
  std::vector<float> t;
  for (int64_t r = 0; r < a.n_out; ++r) {
    float acc = 0;
    for (int64_t block = 0; block < a.n_in; block += 32) {
      const Activations q = QuantiseActivations(x.subspan(static_cast<size_t>(block), 32));
      const EightBits w = LoraWeights(a, r, block);
      int dot = 0;
      for (size_t k = 0; k < 32; ++k) dot += w.c[k] * q.q[k];
      acc = std::fma(static_cast<float>(dot), w.d * q.scale, acc);
    }
    t.push_back(acc);
  }
  std::vector<float> u;
  for (int64_t n = 0; n < b.n_out; ++n) {
    float acc = 0;
    for (int64_t block = 0; block < b.n_in; block += 32) {
      const std::span<const float> values = std::span<const float>(t).subspan(static_cast<size_t>(block));
      const EightBits w = LoraWeights(b, n, block);
      const float most = MostOf(values.first(w.c.size()));
      const float inverse = most == 0 ? 0 : 127.0f / most;
      int dot = 0;
      for (size_t k = 0; k < w.c.size(); ++k) dot += w.c[k] * Code(values[k] * inverse);
      acc = std::fma(static_cast<float>(dot), w.d * (most / 127.0f), acc);
    }
    u.push_back(acc);
  }
  return u;
}

float LinearFast(const HostMatrix& matrix, int64_t output, std::span<const float> x) {
  if (BlockElements(matrix.dtype) == 1) return LinearExact(matrix, output, x);
  const int64_t row = SourceRow(matrix, output);
  const bool is_fine = matrix.dtype == DType::kQ6_K || matrix.dtype == DType::kQ3_K;
  const int64_t group = is_fine ? 16 : 32;  // values that share a scale
  float acc = 0;
  for (int64_t block = 0; block < matrix.n_in; block += 32) {
    const auto [dx, q, sum] = QuantiseActivations(x.subspan(static_cast<size_t>(block), 32));
    const float sx = dx * static_cast<float>(sum);
    for (int64_t k = block; k < block + 32; k += group) {
      int dot = 0;
      for (int64_t i = k; i < k + group; ++i) dot += ReadWeight(matrix, row, i).code * q[i - block];
      const WeightValue w = ReadWeight(matrix, row, k);
      if (w.has_m) acc = std::fma(w.m, sx, acc);
      const float s = w.d * dx;
      acc = std::fma(static_cast<float>(dot), s, acc);
    }
  }
  return acc;
}

void Rope(std::span<float> head, std::span<const float> cos, std::span<const float> sin) {
  const size_t half = cos.size();
  for (size_t i = 0; i < half; ++i) {
    const float x1 = head[i];
    const float x2 = head[half + i];
    const float t1 = x2 * sin[i];
    const float t2 = x1 * sin[i];
    head[i] = std::fma(x1, cos[i], 0.0f - t1);
    head[half + i] = std::fma(x2, cos[i], t2);
  }
}

namespace {

float NearestBf16(float x) {
  if (std::isnan(x)) return x;
  // The nearer of the two neighbours with 8 bits, the even one of a tie; exact in float64.
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const float below = std::bit_cast<float>(bits & 0xffff0000u);
  const float above = std::bit_cast<float>((bits & 0xffff0000u) + 0x10000u);
  const double to_below = std::fabs(static_cast<double>(x) - below);
  const double to_above = std::fabs(static_cast<double>(above) - x);
  if (to_below != to_above) return to_below < to_above ? below : above;
  return (bits >> 16 & 1) == 0 ? below : above;
}

}  // namespace

float RoundKv(DType type, float x) {
  if (type == DType::kF16) return static_cast<float>(static_cast<Float16>(x));
  return type == DType::kBF16 ? RoundBf16Operand(x) : x;
}

float RoundBf16Operand(float x) { return std::fabs(x) < 0x1p-50f ? 0.0f : NearestBf16(x); }

float DotBf16Pair(float acc, float a0, float a1, float b0, float b1) {
  return std::fma(a0, b0, std::fma(a1, b1, acc));
}

namespace {

// Segments folded from left to right: `out` and the sum of weights with the largest score they refer to.
struct Folded {
  float (*power)(float);  // what scores are exponents of
  std::vector<float> out;
  float lanes[16] = {};  // of the sum, over bfloat16; float32 uses the first alone
  float m = 0;
  bool first = true;

  void Add(const std::vector<float>& o, const float segment_lanes[16], float segment_max) {
    const float new_max = first ? segment_max : std::max(m, segment_max);
    const float alpha = first ? 0.0f : power(m - new_max);
    const float beta = first ? 1.0f : power(segment_max - new_max);
    if (first) out.assign(o.size(), 0.0f);
    for (int lane = 0; lane < 16; ++lane) {
      lanes[lane] = first ? segment_lanes[lane] : std::fma(segment_lanes[lane], beta, lanes[lane] * alpha);
    }
    for (size_t d = 0; d < o.size(); ++d) out[d] = first ? o[d] : std::fma(o[d], beta, out[d] * alpha);
    m = new_max;
    first = false;
  }
  std::vector<float> DividedBy(float sum) {
    const float inverse = 1.0f / sum;
    for (float& v : out) v = v * inverse;
    return out;
  }
};

}  // namespace

std::vector<float> Attend(std::span<const float> q, const std::vector<std::vector<float>>& keys,
                          const std::vector<std::vector<float>>& values, int lo, int hi, float scale) {
  const size_t head_dim = q.size();
  Folded folded{.power = Exp};
  for (int segment = lo / 64 * 64; segment < hi; segment += 64) {
    const int begin = std::max(segment, lo);
    const int end = std::min(segment + 64, hi);
    std::vector<float> score(64);
    float segment_max = -std::numeric_limits<float>::infinity();
    for (int key = begin; key < end; ++key) {
      float acc = 0;
      for (size_t d = 0; d < head_dim; ++d) acc = std::fma(q[d], keys[static_cast<size_t>(key)][d], acc);
      score[static_cast<size_t>(key - segment)] = acc * scale;
      segment_max = std::max(segment_max, acc * scale);
    }
    // Lane l sums keys l, l + 16, l + 32, l + 48 of the segment.
    float lanes[16] = {};
    std::vector<float> o(head_dim, 0.0f);
    for (int key = begin; key < end; ++key) {
      const float p = Exp(score[static_cast<size_t>(key - segment)] - segment_max);
      lanes[(key - segment) % 16] = lanes[(key - segment) % 16] + p;
      for (size_t d = 0; d < head_dim; ++d) o[d] = std::fma(p, values[static_cast<size_t>(key)][d], o[d]);
    }
    const float sum[16] = {Tree(lanes)};
    folded.Add(o, sum, segment_max);
  }
  return folded.DividedBy(folded.lanes[0]);
}

std::vector<float> AttendBf16(std::span<const float> q, const std::vector<std::vector<float>>& keys,
                              const std::vector<std::vector<float>>& values, int lo, int hi, float scale) {
  const auto head_dim = static_cast<int>(q.size());
  const auto at = [&](const std::vector<std::vector<float>>& rows, int key, int d) {
    return d < head_dim ? rows[static_cast<size_t>(key)][static_cast<size_t>(d)] : 0.0f;
  };
  const float power_scale = scale * cpu::kLog2E;
  std::vector<float> rounded_q(q.size() + 1, 0.0f);
  for (size_t d = 0; d < q.size(); ++d) rounded_q[d] = RoundBf16Operand(q[d] * power_scale);
  Folded folded{.power = Exp2Weight};
  for (int segment = lo / 64 * 64; segment < hi; segment += 64) {
    const int begin = std::max(segment, lo);
    const int end = std::min(segment + 64, hi);
    float score[64];
    float segment_max = -std::numeric_limits<float>::infinity();
    for (int key = begin; key < end; ++key) {
      float acc = 0;
      for (int d = 0; d < head_dim; d += 2) {
        acc = DotBf16Pair(acc, rounded_q[static_cast<size_t>(d)], rounded_q[static_cast<size_t>(d) + 1],
                          at(keys, key, d), at(keys, key, d + 1));
      }
      score[key - segment] = acc;
      segment_max = std::max(segment_max, acc);
    }
    // Weights of the segment, zero where not attended. Lane l sums 2l + 1, 2l, then 32 + 2l + 1, 32 + 2l.
    float p[64] = {};
    for (int key = begin; key < end; ++key) {
      p[key - segment] = RoundBf16Operand(Exp2Weight(score[key - segment] - segment_max));
    }
    float lanes[16];
    for (int l = 0; l < 16; ++l) {
      lanes[l] = DotBf16Pair(0.0f, p[2 * l], p[2 * l + 1], 1.0f, 1.0f);
      lanes[l] = DotBf16Pair(lanes[l], p[32 + 2 * l], p[32 + 2 * l + 1], 1.0f, 1.0f);
    }
    std::vector<float> o(q.size(), 0.0f);
    for (int d = 0; d < head_dim; ++d) {
      float acc = 0;
      for (int key = segment; key < segment + 64; key += 2) {
        const auto value = [&](int k) { return k >= begin && k < end ? at(values, k, d) : 0.0f; };
        acc = DotBf16Pair(acc, p[key - segment], p[key + 1 - segment], value(key), value(key + 1));
      }
      o[static_cast<size_t>(d)] = acc;
    }
    folded.Add(o, lanes, segment_max);
  }
  return folded.DividedBy(Tree(folded.lanes));
}

}  // namespace coterie::testing::oracle
