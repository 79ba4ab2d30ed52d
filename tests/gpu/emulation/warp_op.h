#ifndef COTERIE_TESTS_GPU_EMULATION_WARP_OP_H_
#define COTERIE_TESTS_GPU_EMULATION_WARP_OP_H_

#include "lane.h"

namespace coterie::emulation {

// Computes what the lanes of a warp do together from what they deposited; every lane gets `n_out` words.
void Compute(Warp& warp, int n_out);

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_WARP_OP_H_
