#ifndef COTERIE_KERNELS_COMM_REDUCE_H_
#define COTERIE_KERNELS_COMM_REDUCE_H_

#include <cstddef>
#include <span>

#include "kernels/comm/communicator.h"

namespace coterie {

// output[i] = sources[0][i] op sources[1][i] op ..., in this order: the one order of sums of this folder.
// bfloat16 and float16 are added in float32 and rounded once, to nearest even; integers wrap; a maximum is
// NaN where any source is. `output` may be one of the sources.
void Reduce(ElementType type, ReduceOp op, std::span<const std::byte* const> sources, std::byte* output,
            size_t count);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_REDUCE_H_
