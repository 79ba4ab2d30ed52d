#ifndef COTERIE_ROUTER_DOT_H_
#define COTERIE_ROUTER_DOT_H_

#include <cstddef>

namespace coterie::router_internal {

// Rows are padded with zeros to a multiple of so many floats.
inline constexpr size_t kDotLanes = 16;

// out[r] = query · rows[r] for rows [n_rows, stride], query [stride]; stride a multiple of kDotLanes.
// One order of operations on every machine: lane l sums the products l, l+16, l+32, ... with separate
// multiply and add, then the 16 lanes are folded in halves (8, 4, 2, 1). So a score does not depend on the
// instruction set, and two gateways route alike.
void DotRows(const float* query, const float* rows, size_t n_rows, size_t stride, float* out);

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_DOT_H_
