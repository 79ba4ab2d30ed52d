#ifndef COTERIE_KERNELS_FORMATS_QUANTIZE_H_
#define COTERIE_KERNELS_FORMATS_QUANTIZE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace coterie {

// The largest value a Q8_0 block can hold: 127 times the largest binary16.
inline constexpr float kMaxQ8_0 = 127.0f * 65504.0f;

// Values as GGUF's Q8_0: blocks of 32 with one binary16 scale d = max|x| / 127 and codes rint(x / d). The
// number of values must be a multiple of 32 and none beyond kMaxQ8_0 or NaN; CHECKed.
std::vector<uint8_t> QuantizeQ8_0(std::span<const float> values);

}  // namespace coterie

#endif  // COTERIE_KERNELS_FORMATS_QUANTIZE_H_
