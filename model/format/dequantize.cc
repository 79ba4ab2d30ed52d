#include "model/format/dequantize.h"

#include <cstring>

#include "common/check.h"
#include "model/format/float16.h"

// Block layouts: ggml/src/ggml-common.h of the llama.cpp project and gguf-py's quants module describe them.
namespace coterie {
namespace {

constexpr int kSmallBlock = 32;
constexpr int kSuperBlock = 256;

// The 32 nibbles of a small block: low nibbles are values 0..15, high ones 16..31.
inline int Nibble(const uint8_t* qs, int i) { return i < 16 ? qs[i] & 0x0f : qs[i - 16] >> 4; }

void Q8_0(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  const auto* q = reinterpret_cast<const int8_t*>(b + 2);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = static_cast<float>(q[i]) * d;
}

void Q4_0(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = d * static_cast<float>(Nibble(b + 2, i) - 8);
}

void Q4_1(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  const float m = LoadHalf(b + 2);
  for (int i = 0; i < kSmallBlock; ++i) out[i] = d * static_cast<float>(Nibble(b + 4, i)) + m;
}

void Q5_0(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  const uint32_t high = LoadU32(b + 2);
  for (int i = 0; i < kSmallBlock; ++i) {
    const int q = Nibble(b + 6, i) | static_cast<int>((high >> i) & 1) << 4;
    out[i] = d * static_cast<float>(q - 16);
  }
}

void Q5_1(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  const float m = LoadHalf(b + 2);
  const uint32_t high = LoadU32(b + 4);
  for (int i = 0; i < kSmallBlock; ++i) {
    const int q = Nibble(b + 8, i) | static_cast<int>((high >> i) & 1) << 4;
    out[i] = d * static_cast<float>(q) + m;
  }
}

// The eight 6-bit (scale, minimum) pairs of Q4_K and Q5_K: the first four stand whole in bytes 0..3 and 4..7;
// of the last four the low nibbles stand in bytes 8..11 and the top two bits above the first eight's six.
inline void ScaleMin(const uint8_t* s, int j, int* scale, int* minimum) {
  if (j < 4) {
    *scale = s[j] & 0x3f;
    *minimum = s[j + 4] & 0x3f;
  } else {
    *scale = (s[j + 4] & 0x0f) | (s[j - 4] >> 6) << 4;
    *minimum = (s[j + 4] >> 4) | (s[j] >> 6) << 4;
  }
}

// Sub-block j (32 values) takes the low (j even) or high (j odd) nibbles of bytes [32 (j / 2), 32 (j / 2) +
// 32).
inline int SubBlockNibble(const uint8_t* qs, int j, int i) {
  const uint8_t byte = qs[32 * (j / 2) + i];
  return j % 2 == 0 ? byte & 0x0f : byte >> 4;
}

void Q4_K(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  const float dmin = LoadHalf(b + 2);
  for (int j = 0; j < 8; ++j) {
    int scale, minimum;
    ScaleMin(b + 4, j, &scale, &minimum);
    const float dj = d * static_cast<float>(scale);
    const float mj = dmin * static_cast<float>(minimum);
    for (int i = 0; i < 32; ++i) {
      out[32 * j + i] = dj * static_cast<float>(SubBlockNibble(b + 16, j, i)) - mj;
    }
  }
}

void Q5_K(const uint8_t* b, float* out) {
  const float d = LoadHalf(b);
  const float dmin = LoadHalf(b + 2);
  const uint8_t* high = b + 16;  // bit j of byte i is the fifth bit of value i of sub-block j
  for (int j = 0; j < 8; ++j) {
    int scale, minimum;
    ScaleMin(b + 4, j, &scale, &minimum);
    const float dj = d * static_cast<float>(scale);
    const float mj = dmin * static_cast<float>(minimum);
    for (int i = 0; i < 32; ++i) {
      const int q = SubBlockNibble(b + 48, j, i) | ((high[i] >> j) & 1) << 4;
      out[32 * j + i] = dj * static_cast<float>(q) - mj;
    }
  }
}

void Q6_K(const uint8_t* b, float* out) {
  const uint8_t* low = b;         // 128 bytes
  const uint8_t* high = b + 128;  // 64 bytes
  const auto* scales = reinterpret_cast<const int8_t*>(b + 192);
  const float d = LoadHalf(b + 208);
  for (int v = 0; v < kSuperBlock; ++v) {
    // Each half of 128 values: four rows of 32; rows 0,1 are low nibbles, rows 2,3 high nibbles of the same
    // 64 bytes; the row number selects the bit pair in `high`.
    const int half = v / 128;
    const int row = (v % 128) / 32;
    const int i = v % 32;
    const uint8_t l = low[64 * half + 32 * (row % 2) + i];
    const int nibble = row < 2 ? l & 0x0f : l >> 4;
    const int pair = (high[32 * half + i] >> (2 * row)) & 3;
    const int8_t scale = scales[v / 16];
    const float dj = d * static_cast<float>(scale);
    out[v] = dj * static_cast<float>((nibble | pair << 4) - 32);
  }
}

template <typename Block>
void EachBlock(DType dtype, const uint8_t* data, int64_t n, float* out, Block block) {
  const int64_t elements = BlockElements(dtype);
  const int64_t bytes = BlockBytes(dtype);
  for (int64_t i = 0; i < n / elements; ++i) block(data + i * bytes, out + i * elements);
}

}  // namespace

void Dequantize(DType dtype, const uint8_t* data, int64_t n, float* out) {
  COTERIE_CHECK_EQ(n % BlockElements(dtype), 0) << "values of " << DTypeName(dtype);
  switch (dtype) {
    case DType::kF32:
      if (n > 0) std::memcpy(out, data, static_cast<size_t>(n) * sizeof(float));
      return;
    case DType::kF16:
      return EachBlock(dtype, data, n, out, [](const uint8_t* b, float* o) { *o = LoadHalf(b); });
    case DType::kBF16:
      return EachBlock(dtype, data, n, out,
                       [](const uint8_t* b, float* o) { *o = BFloat16ToFloat(LoadU16(b)); });
    case DType::kQ8_0:
      return EachBlock(dtype, data, n, out, Q8_0);
    case DType::kQ4_0:
      return EachBlock(dtype, data, n, out, Q4_0);
    case DType::kQ4_1:
      return EachBlock(dtype, data, n, out, Q4_1);
    case DType::kQ5_0:
      return EachBlock(dtype, data, n, out, Q5_0);
    case DType::kQ5_1:
      return EachBlock(dtype, data, n, out, Q5_1);
    case DType::kQ4_K:
      return EachBlock(dtype, data, n, out, Q4_K);
    case DType::kQ5_K:
      return EachBlock(dtype, data, n, out, Q5_K);
    case DType::kQ6_K:
      return EachBlock(dtype, data, n, out, Q6_K);
  }
}

std::vector<float> DequantizeTensor(const TensorView& tensor) {
  const int64_t n = tensor.n_elements();
  COTERIE_CHECK_EQ(static_cast<int64_t>(tensor.bytes.size()), RowBytes(tensor.dtype, n)) << tensor.name;
  std::vector<float> out(static_cast<size_t>(n));
  Dequantize(tensor.dtype, tensor.bytes.data(), n, out.data());
  return out;
}

}  // namespace coterie
