#ifndef COTERIE_MODEL_FORMAT_WRITE_SAFETENSORS_H_
#define COTERIE_MODEL_FORMAT_WRITE_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/format/tensor_view.h"

namespace coterie {

// The bytes of a safetensors file with these tensors, whose names differ and whose types are F32, F16 or BF16
// (CHECKed), in ascending order of their names: the same tensors always give the same bytes.
std::string WriteSafetensors(std::vector<TensorView> tensors,
                             const std::map<std::string, std::string>& metadata = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_WRITE_SAFETENSORS_H_
