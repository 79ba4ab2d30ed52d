#ifndef COTERIE_KERNELS_CPU_VECTOR_MATH_H_
#define COTERIE_KERNELS_CPU_VECTOR_MATH_H_

#include <cstdint>
#include <span>

namespace coterie::cpu {

// The sampler's loops over a whole vocabulary (kernels/token_weights.h), four lanes at a time in the
// instructions every x86-64 and ARM64 has.

// The largest value, or NaN when one is NaN or infinite. At least one value.
float MaxIfFinite(std::span<const float> values);

// distances[i] = (top - logits[i]) / temperature: +0 for the largest logit, never negative.
void DistancesBelow(float top, std::span<const float> logits, float temperature, std::span<float> distances);

// weights[i] = exp(-distances[i]). May be in place.
void ExpOfNegatives(std::span<const float> distances, std::span<float> weights);

// The mass of all of them together.
uint64_t MassOfAll(std::span<const float> weights);

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_VECTOR_MATH_H_
