#ifndef COTERIE_KERNELS_ARROW_H_
#define COTERIE_KERNELS_ARROW_H_

#include <vector>

#include "kernels/device.h"

namespace coterie {

// What the arrow gate scores a pair by (GateKind::kArrow). Let v be the top right singular vector of B A: the
// direction of inputs that the pair changes most. v lies in the span of A's rows, v = Aᵀ w, so the score |v ·
// x| = |w · (A x)| needs no more than the t = A x of the pair's own product. Returns w [rank]; zeros where B
// A is zero. In float64 throughout, the same bits on every machine; its sign is arbitrary. A is [rank, n_in],
// B [n_out, rank], both of a float type. Costs (n_in + n_out) · rank² operations.
std::vector<float> ArrowDirection(const HostMatrix& a, const HostMatrix& b);

}  // namespace coterie

#endif  // COTERIE_KERNELS_ARROW_H_
