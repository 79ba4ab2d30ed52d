#ifndef COTERIE_KERNELS_QUANTIZE_H_
#define COTERIE_KERNELS_QUANTIZE_H_

#include <cstdint>
#include <span>
#include <vector>

namespace coterie {

// Values as GGUF's Q8_0: blocks of 32 with one binary16 scale d = max|x| / 127 and codes rint(x / d). The
// number of values is a multiple of 32; a value too large for the scale's type (above 127 · 65504) CHECKs.
std::vector<uint8_t> QuantizeQ8_0(std::span<const float> values);

}  // namespace coterie

#endif  // COTERIE_KERNELS_QUANTIZE_H_
