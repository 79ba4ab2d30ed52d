#ifndef COTERIE_KERNELS_HOST_MATRIX_H_
#define COTERIE_KERNELS_HOST_MATRIX_H_

#include <span>

#include "common/status.h"
#include "kernels/device.h"

namespace coterie {

// Whether the parts make one matrix: InvalidArgument naming the part whose shape or row order is wrong.
Status CheckMatrixParts(std::span<const HostMatrix> parts);

}  // namespace coterie

#endif  // COTERIE_KERNELS_HOST_MATRIX_H_
