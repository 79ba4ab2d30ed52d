#ifndef COTERIE_COMMON_PHILOX_H_
#define COTERIE_COMMON_PHILOX_H_

#include <array>
#include <cstdint>

#include "common/random.h"

namespace coterie {

// Philox4x32-10, a counter-based generator: the n-th number is a pure function of (key, counter), so a
// sequence taken up anywhere goes on with the same draws. Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3" (SC 2011); known answers in tests/common/philox_test.cc are from their
// Random123 distribution.
constexpr std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// 64 random bits: draw `position` of stream `seed`.
constexpr uint64_t PhiloxBits(uint64_t seed, uint64_t position) {
  const std::array<uint32_t, 4> r =
      Philox4x32({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return uint64_t{r[0]} << 32 | r[1];
}
// Uniform in [0, 1) with 53 bits.
constexpr double PhiloxUniform(uint64_t seed, uint64_t position) {
  return ToUnitInterval(PhiloxBits(seed, position));
}

}  // namespace coterie

#endif  // COTERIE_COMMON_PHILOX_H_
