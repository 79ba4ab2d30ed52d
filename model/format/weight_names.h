#ifndef COTERIE_MODEL_FORMAT_WEIGHT_NAMES_H_
#define COTERIE_MODEL_FORMAT_WEIGHT_NAMES_H_

#include <optional>
#include <string>
#include <string_view>

#include "model/format/model_files.h"

namespace coterie {

struct WeightPlace {
  WeightRole role;
  int layer;  // 0 for weights that stand once
  bool operator==(const WeightPlace&) const = default;
};

// The role and layer that the name of a tensor stands for, in GGUF ("blk.3.attn_q.weight") or Hugging Face
// naming ("model.layers.3.self_attn.q_proj.weight"); nothing for a name that is no weight of this model, save
// the head's where it is tied. Layer numbers have no leading zeros, so that no two names are the same weight.
std::optional<WeightPlace> ParseWeightName(std::string_view name, const ModelConfig& config, bool is_gguf);
std::string WeightName(WeightRole role, int layer, Architecture architecture, bool is_gguf);

// Tensors that files bring and the decoder does not need: RoPE tables that are computed from the
// configuration.
bool IsIgnorableTensor(std::string_view name, bool is_gguf);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_WEIGHT_NAMES_H_
