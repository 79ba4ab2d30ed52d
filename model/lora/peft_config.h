#ifndef COTERIE_MODEL_LORA_PEFT_CONFIG_H_
#define COTERIE_MODEL_LORA_PEFT_CONFIG_H_

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"

namespace coterie {

struct LoraLimits {
  int max_rank = 1024;  // a GPU takes 256: DecoderOps::max_lora_rank
  // Bytes of the weights file: rank 256 on every layer of a 70B base is 3.3 GB in BF16. A worker bounds the
  // memory of adapters by --adapter-bytes.
  size_t max_bytes = size_t{4} << 30;
  // Patterns with regular-expression syntax in rank_pattern and alpha_pattern together; plain names are not
  // counted.
  int max_regexes = 32;
};

// A module selector of PEFT: a list of names, each matching exactly or as the end of a name after a dot, or
// one regular expression that must match the whole name.
struct ModuleSelector {
  std::vector<std::string> names;
  std::optional<std::string> regex;
  bool empty() const { return names.empty() && !regex; }
};

// The fields of a PEFT adapter_config.json (LoraConfig of PEFT 0.21) that decide what the adapter computes.
struct PeftConfig {
  int rank = 8;
  double alpha = 8;
  bool use_rslora = false;  // scale alpha / sqrt(rank) instead of alpha / rank
  bool all_linear = false;  // target_modules is "all-linear": every linear layer but the output head
  ModuleSelector targets;   // unless all_linear
  ModuleSelector excluded;
  std::optional<std::vector<int64_t>> layers_to_transform;
  std::vector<std::string> layers_patterns;  // the names before the layer's number; empty: any
  // In the file's order, of which the first match counts; matched as (.*\.)?(key)$.
  std::vector<std::pair<std::string, int>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
};

// Parses adapter_config.json. Every field is honoured, known to matter in training only, or refused:
// InvalidArgument for a wrong value, Unimplemented for a feature we do not run and for an unknown field with
// a value other than null, false or empty. Errors name field, value and limit. `name` stands in errors.
StatusOr<PeftConfig> ParsePeftConfig(std::string_view text, std::string_view name,
                                     const LoraLimits& limits = {});
// The same with all that is wrong: appended to *problems, of which ParsePeftConfig gives the first. What is
// returned holds defaults where a field is wrong.
PeftConfig ReadPeftConfig(std::string_view text, std::string_view name, const LoraLimits& limits,
                          std::vector<Status>* problems);

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_PEFT_CONFIG_H_
