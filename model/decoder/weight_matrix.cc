#include "model/decoder/weight_matrix.h"

namespace coterie {

HostMatrix MatrixOf(const Weight& weight, WeightRole role, std::optional<DType> float_weights) {
  HostMatrix matrix;
  matrix.dtype = weight.tensor.dtype;
  matrix.n_out = weight.tensor.shape[0];
  matrix.n_in = weight.tensor.shape[1];
  matrix.data = weight.tensor.bytes.data();
  matrix.row_order = weight.row_order;
  matrix.name = weight.tensor.name;
  if (!float_weights || BlockElements(matrix.dtype) != 1) return matrix;
  const bool embedding = role == WeightRole::kTokenEmbedding || role == WeightRole::kOutput;
  const DType rounded = embedding ? DType::kQ8_0 : *float_weights;
  if (matrix.n_in % BlockElements(rounded) == 0) matrix.rounded_to = rounded;
  return matrix;
}

}  // namespace coterie
