#include "kernels/comm/reduce.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "kernels/formats/half.h"

namespace coterie {
namespace {

constexpr size_t kBlock = 256;  // values at a time: sums stay in the nearest cache, sources are read in runs

struct Float32 {
  using Stored = float;
  using Sum = float;
  static Sum Load(Stored x) { return x; }
  static Stored Store(Sum x) { return x; }
};
struct BFloat16 {
  using Stored = uint16_t;
  using Sum = float;
  static Sum Load(Stored x) { return Bf16ToFloat(x); }
  static Stored Store(Sum x) { return FloatToBf16(x); }
};
struct Float16 {
  using Stored = uint16_t;
  using Sum = float;
  static Sum Load(Stored x) { return HalfToFloat(x); }
  static Stored Store(Sum x) { return FloatToHalf(x); }
};
struct Int32 {
  using Stored = uint32_t;  // wraps without being undefined
  using Sum = uint32_t;
  static Sum Load(Stored x) { return x; }
  static Stored Store(Sum x) { return x; }
};
struct Uint8 {
  using Stored = uint8_t;
  using Sum = uint8_t;
  static Sum Load(Stored x) { return x; }
  static Stored Store(Sum x) { return x; }
};

template <typename Sum>
Sum Larger(Sum a, Sum b) {
  if constexpr (std::is_same_v<Sum, float>) {
    return std::isnan(a) || a >= b ? a : b;
  } else if constexpr (std::is_same_v<Sum, uint32_t>) {
    return static_cast<int32_t>(a) >= static_cast<int32_t>(b) ? a : b;
  } else {
    return std::max(a, b);
  }
}

template <typename Type>
void ReduceAs(ReduceOp op, std::span<const std::byte* const> sources, std::byte* output, size_t count) {
  using Stored = typename Type::Stored;
  std::array<typename Type::Sum, kBlock> sums;
  std::array<Stored, kBlock> block;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t n = std::min(kBlock, count - begin);
    for (size_t s = 0; s < sources.size(); ++s) {
      // Copied out: buffers of callers may stand anywhere.
      std::memcpy(block.data(), sources[s] + begin * sizeof(Stored), n * sizeof(Stored));
      for (size_t i = 0; i < n; ++i) {
        const auto x = Type::Load(block[i]);
        if (s == 0) {
          sums[i] = x;
        } else {
          sums[i] = op == ReduceOp::kSum ? static_cast<typename Type::Sum>(sums[i] + x) : Larger(sums[i], x);
        }
      }
    }
    for (size_t i = 0; i < n; ++i) block[i] = Type::Store(sums[i]);
    std::memcpy(output + begin * sizeof(Stored), block.data(), n * sizeof(Stored));
  }
}

}  // namespace

void Reduce(ElementType type, ReduceOp op, std::span<const std::byte* const> sources, std::byte* output,
            size_t count) {
  switch (type) {
    case ElementType::kFloat32:
      return ReduceAs<Float32>(op, sources, output, count);
    case ElementType::kBFloat16:
      return ReduceAs<BFloat16>(op, sources, output, count);
    case ElementType::kFloat16:
      return ReduceAs<Float16>(op, sources, output, count);
    case ElementType::kInt32:
      return ReduceAs<Int32>(op, sources, output, count);
    case ElementType::kUint8:
      return ReduceAs<Uint8>(op, sources, output, count);
  }
}

}  // namespace coterie
