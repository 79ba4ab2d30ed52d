#ifndef COTERIE_KERNELS_DOT_ROWS_H_
#define COTERIE_KERNELS_DOT_ROWS_H_

#include <cstdint>
#include <span>

namespace coterie {

// Float32 dot products of a query with many rows, for searching prototypes. (The int8 products of quantised
// weights are Dot4 in kernels/cpu/isa/simd_*.h.) One thread, the fastest instruction set of the machine, the
// same bits on all of them (docs/numerics.md). Callable from any thread.

// scores[i] = query · rows[i]; rows [scores.size(), query.size()]. Sums run in sixteen strided lanes, then a
// fixed tree.
void DotRows(std::span<const float> query, const float* rows, std::span<float> scores);

}  // namespace coterie

#endif  // COTERIE_KERNELS_DOT_ROWS_H_
