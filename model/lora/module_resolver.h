#ifndef COTERIE_MODEL_LORA_MODULE_RESOLVER_H_
#define COTERIE_MODEL_LORA_MODULE_RESOLVER_H_

#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/lora.h"
#include "model/format/model_config.h"
#include "model/lora/peft_config.h"

namespace coterie {

// One linear layer of the base that an adapter changes.
struct AdaptedModule {
  int layer = 0;
  LoraModule module = LoraModule::kQ;
  int rank = 0;
  double scale = 0;
  int n_in = 0;
  int n_out = 0;
  std::string name;  // as in transformers: "model.layers.3.self_attn.q_proj"
};

// "model.layers.3.self_attn.q_proj"
std::string LoraModuleName(int layer, LoraModule module);

// Whether the base has such a linear layer: either Q, K and V or all of them in one, and so with gate and up.
bool HasModule(const ModelConfig& base, LoraModule module);

// The input and output widths of a linear layer of the base.
struct LoraModuleSize {
  int n_in = 0;
  int n_out = 0;
};
LoraModuleSize SizeOfModule(const ModelConfig& base, LoraModule module);

// The linear layers of the base that a configuration adapts, with rank and scale, by ascending layer and
// module: those that PEFT would wrap (check_target_module_exists, get_pattern_key). FailedPrecondition naming
// the field when a name in target_modules fits no linear layer of this base, layers_to_transform goes beyond
// its layers, or nothing is left.
StatusOr<std::vector<AdaptedModule>> ResolveModules(const PeftConfig& peft, const ModelConfig& base,
                                                    std::string_view name, const LoraLimits& limits = {});

// The keys of rank_pattern and alpha_pattern that decide for none of `modules` (full names), since they fit
// none or an earlier key fits, too: `rank_pattern "q_prj"`.
StatusOr<std::vector<std::string>> UnusedPatternKeys(const PeftConfig& peft,
                                                     const std::vector<std::string>& modules,
                                                     const LoraLimits& limits = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_MODULE_RESOLVER_H_
