#ifndef COTERIE_KERNELS_CPU_VECTOR_MATH_H_
#define COTERIE_KERNELS_CPU_VECTOR_MATH_H_

#include <cstdint>
#include <span>

namespace coterie::cpu {

// The sampler's loops over a whole vocabulary, four lanes at a time in the instructions every x86-64 and
// ARM64 has. Only additions, multiplications, divisions and comparisons in a fixed order, never a fused one:
// the same bits on every machine, which the C library's exp does not promise.

// The largest value, or NaN when one is NaN or infinite. At least one value.
float MaxIfFinite(std::span<const float> values);

// distances[i] = (top - logits[i]) / temperature: 0 for the largest logit, never negative.
void DistancesBelow(float top, std::span<const float> logits, float temperature, std::span<float> distances);

// weights[i] = exp(-distances[i]); relative error below 3e-7; 0 from a distance of 87 on. May be in place.
void ExpOfNegative(std::span<const float> distances, std::span<float> weights);

// In eight interleaved float64 sums, added up in a fixed order.
double SumOf(std::span<const float> values);

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_VECTOR_MATH_H_
