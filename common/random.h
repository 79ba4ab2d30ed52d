#ifndef COTERIE_COMMON_RANDOM_H_
#define COTERIE_COMMON_RANDOM_H_

#include <cstdint>

namespace coterie {

// 64 bits from the system's source of randomness: other ones in every process and on every call. Thread-safe.
uint64_t DrawSeed();

// Finaliser of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a
// bijection in which every bit of x sways every bit of the result.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// In [0, 1), by the upper 53 bits: all that a double tells apart there.
constexpr double ToUnitInterval(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace coterie

#endif  // COTERIE_COMMON_RANDOM_H_
