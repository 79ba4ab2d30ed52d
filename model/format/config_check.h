#ifndef COTERIE_MODEL_FORMAT_CONFIG_CHECK_H_
#define COTERIE_MODEL_FORMAT_CONFIG_CHECK_H_

#include "model/format/model_config.h"

namespace coterie {

// Checks what must hold between fields that are each in their own range: heads divide, the head is even, the
// parameters of RoPE scaling are in order. `name` stands in errors.
Status CheckConsistent(const ModelConfig& config, std::string_view name);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_CONFIG_CHECK_H_
