#ifndef COTERIE_MODEL_FORMAT_DEQUANTIZE_H_
#define COTERIE_MODEL_FORMAT_DEQUANTIZE_H_

#include <vector>

#include "model/format/tensor_view.h"

namespace coterie {

// The whole tensor as float32, row-major (kernels/formats/dequantize.h).
std::vector<float> DequantizeTensor(const TensorView& tensor);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_DEQUANTIZE_H_
