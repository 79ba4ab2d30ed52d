#ifndef COTERIE_KERNELS_DOT_H_
#define COTERIE_KERNELS_DOT_H_

#include <cstdint>
#include <span>

namespace coterie {

// One query against n rows side by side in memory, for searching prototypes. One thread, the fastest
// instruction set of the machine, the same bits on all of them (docs/numerics.md). Callable from any thread.

// scores[i] = query · rows[i]; rows [scores.size(), query.size()]. Sixteen strided float32 lanes, then a
// fixed tree.
void DotRows(std::span<const float> query, const float* rows, std::span<float> scores);

}  // namespace coterie

#endif  // COTERIE_KERNELS_DOT_H_
