#ifndef COTERIE_MODEL_PUBLISHING_CHECK_WEIGHTS_H_
#define COTERIE_MODEL_PUBLISHING_CHECK_WEIGHTS_H_

#include <string>
#include <vector>

#include "common/status.h"
#include "model/format/safetensors.h"
#include "model/lora/peft_config.h"

namespace coterie {

// What is wrong with the weights of a LoRA adapter whatever its base: names, types, halves of pairs, ranks,
// values. `peft` is null where the configuration is wrong itself. Appended to *problems in the order of the
// tensors' names; each names file, tensor, value and limit.
void CheckWeightsAlone(const SafetensorsFile& file, const PeftConfig* peft, const LoraLimits& limits,
                       std::vector<Status>* problems);

// "LoRA of rank 8 on 60 modules (q_proj, v_proj), F32, 1.2 MB".
std::string WeightsInWords(const SafetensorsFile& file);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_CHECK_WEIGHTS_H_
