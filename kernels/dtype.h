#ifndef COTERIE_KERNELS_DTYPE_H_
#define COTERIE_KERNELS_DTYPE_H_

#include <cstdint>
#include <string_view>

namespace coterie {

// Element types of weights as they stand in files (GGUF block formats, safetensors) and of caches.
// A block type stores `BlockElements` values along the last dimension in `BlockBytes` bytes.
enum class DType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ8_0,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ3_K,
  kIQ4_NL
};

constexpr int kDTypeCount = 13;

// Values per block: 1 for plain types, 32 or 256 for quantised ones.
constexpr int64_t BlockElements(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
      return 1;
    case DType::kQ4_K:
    case DType::kQ5_K:
    case DType::kQ6_K:
    case DType::kQ3_K:
      return 256;
    default:
      return 32;
  }
}

constexpr int64_t BlockBytes(DType type) {
  switch (type) {
    case DType::kF32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
      return 2;
    case DType::kQ8_0:
      return 2 + 32;  // f16 scale, 32 x int8
    case DType::kQ4_0:
      return 2 + 16;  // f16 scale, 32 nibbles
    case DType::kQ4_1:
      return 2 + 2 + 16;  // f16 scale, f16 minimum, 32 nibbles
    case DType::kQ5_0:
      return 2 + 4 + 16;  // f16 scale, 32 fifth bits, 32 nibbles
    case DType::kQ5_1:
      return 2 + 2 + 4 + 16;
    case DType::kQ4_K:
      return 2 + 2 + 12 + 128;  // f16 scale, f16 minimum, 8 x 6-bit (scale, minimum), 256 nibbles
    case DType::kQ5_K:
      return 2 + 2 + 12 + 32 + 128;
    case DType::kQ6_K:
      return 128 + 64 + 16 + 2;  // low nibbles, high bit pairs, 16 x int8 scales, f16 scale
    case DType::kQ3_K:
      return 32 + 64 + 12 + 2;  // high bits, low bit pairs, 16 x 6-bit scales, f16 scale
    case DType::kIQ4_NL:
      return 2 + 16;  // f16 scale, 32 nibbles that stand for unequal steps
  }
  return 0;
}

// Bytes of a row of `n` values; n must be a multiple of BlockElements(type).
constexpr int64_t RowBytes(DType type, int64_t n) { return n / BlockElements(type) * BlockBytes(type); }

constexpr std::string_view DTypeName(DType type) {
  constexpr std::string_view kNames[kDTypeCount] = {"F32",  "F16",  "BF16", "Q8_0", "Q4_0", "Q4_1",  "Q5_0",
                                                    "Q5_1", "Q4_K", "Q5_K", "Q6_K", "Q3_K", "IQ4_NL"};
  return kNames[static_cast<int>(type)];
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_DTYPE_H_
