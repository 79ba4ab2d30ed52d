#include "model/format/dequantize.h"

#include "common/check.h"
#include "kernels/formats/dequantize.h"

namespace coterie {

std::vector<float> DequantizeTensor(const TensorView& tensor) {
  const int64_t n = tensor.n_elements();
  COTERIE_CHECK_EQ(static_cast<int64_t>(tensor.bytes.size()), RowBytes(tensor.dtype, n)) << tensor.name;
  std::vector<float> out(static_cast<size_t>(n));
  Dequantize(tensor.dtype, tensor.bytes.data(), n, out.data());
  return out;
}

}  // namespace coterie
