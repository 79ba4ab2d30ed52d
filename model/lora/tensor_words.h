#ifndef COTERIE_MODEL_LORA_TENSOR_WORDS_H_
#define COTERIE_MODEL_LORA_TENSOR_WORDS_H_

#include <string_view>

#include "common/status.h"
#include "model/format/safetensors.h"

namespace coterie {

// Errors about a weights file that does not hold the tensors its configuration asks for. Each names the file
// and the tensor, what is there instead, the likely reason and what to do.

// `wanted` ("base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight") is not there, though
// target_modules select `module` of the base ("model.layers.0.self_attn.v_proj").
Status MissingTensor(const SafetensorsFile& file, std::string_view wanted, std::string_view module);

// `tensor` belongs to no module that the configuration selects in this base.
Status UnexpectedTensor(std::string_view file, std::string_view tensor);

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_TENSOR_WORDS_H_
