#ifndef COTERIE_KERNELS_HOST_MATRIX_H_
#define COTERIE_KERNELS_HOST_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "common/status.h"
#include "kernels/device.h"

namespace coterie {

// Whether the parts make one matrix: InvalidArgument naming the part whose shape or row order is wrong.
Status CheckMatrixParts(std::span<const HostMatrix> parts);

// Which row of its data is row `row` of the matrix.
inline int64_t RowInData(const HostMatrix& matrix, int64_t row) {
  return matrix.row_order.empty() ? row : matrix.row_order[static_cast<size_t>(row)];
}

}  // namespace coterie

#endif  // COTERIE_KERNELS_HOST_MATRIX_H_
