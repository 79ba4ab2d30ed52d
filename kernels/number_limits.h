#ifndef COTERIE_KERNELS_NUMBER_LIMITS_H_
#define COTERIE_KERNELS_NUMBER_LIMITS_H_

namespace coterie {

// Activations of this size and more, infinities and NaN are out of range (docs/numerics.md, "What is no
// number"): no product of two smaller ones, summed over up to 512 positions, overflows float32. Real
// activations stay below 2^20.
constexpr float kValueLimit = 0x1p59f;
// The sum of squares of a row is below this where all of its values are below kValueLimit by far.
constexpr float kSquaresLimit = 0x1p118f;

}  // namespace coterie

#endif  // COTERIE_KERNELS_NUMBER_LIMITS_H_
