#ifndef COTERIE_MODEL_DECODER_WEIGHT_MATRIX_H_
#define COTERIE_MODEL_DECODER_WEIGHT_MATRIX_H_

#include <optional>

#include "kernels/device.h"
#include "model/format/model_files.h"

namespace coterie {

// The weight of `role` as it is packed: a view of `weight`, rounded to `float_weights`
// (DecoderOptions::float_weights) where it is of floats. Two exceptions: of kQ4_1, embedding and head are
// rounded to kQ8_0, since they are read once a token and lose most by it; and rows that are no whole blocks
// of 32 stay as they are.
HostMatrix MatrixOf(const Weight& weight, WeightRole role, std::optional<DType> float_weights);

}  // namespace coterie

#endif  // COTERIE_MODEL_DECODER_WEIGHT_MATRIX_H_
