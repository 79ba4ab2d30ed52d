#include "model/lora/peft_config.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "model/format/json.h"

namespace coterie {
namespace {

constexpr auto kUnimplemented = absl::StatusCode::kUnimplemented;
constexpr double kMaxAlpha = 1e6;

// Features of PEFT that change the forward pass in ways the decoder does not compute. Off is null, false or
// empty.
constexpr std::string_view kUnsupported[] = {
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
};

// Read by ParsePeftConfig below.
constexpr std::string_view kHonoured[] = {
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "use_rslora",
    "target_modules",
    "exclude_modules",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "bias",
    "layers_to_transform",
    "fan_in_fan_out",
    "init_lora_weights",
};

// Without effect on a trained adapter.
constexpr std::string_view kTrainingOnly[] = {
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "lora_dropout",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "velora_config",
    "megatron_core",
    "megatron_config",
    "runtime_config",
    "qalora_group_size",
    "ensure_weight_tying",
};

template <size_t N>
bool Contains(const std::string_view (&list)[N], std::string_view key) {
  return std::find(std::begin(list), std::end(list), key) != std::end(list);
}

bool IsOff(const Json& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
         ((value.is_array() || value.is_object()) && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

Status RefuseUnsupported(const JsonFields& fields) {
  for (const auto& [key, value] : fields.object().items()) {
    if (Contains(kHonoured, key) || Contains(kTrainingOnly, key) || IsOff(value)) continue;
    return fields.Refuse(
        key,
        Contains(kUnsupported, key)
            ? "which is not supported; train the adapter without it"
            : "a field that is not known and may change the result; remove it if it is about training only",
        kUnimplemented);
  }
  ASSIGN_OR_RETURN(const std::string type, fields.StringOr("peft_type", "LORA"));
  if (type != "LORA") return fields.Refuse("peft_type", "only \"LORA\" adapters are served", kUnimplemented);
  ASSIGN_OR_RETURN(const std::string task, fields.StringOr("task_type", "CAUSAL_LM"));
  if (task != "CAUSAL_LM")
    return fields.Refuse("task_type", "only \"CAUSAL_LM\" adapters are served", kUnimplemented);
  ASSIGN_OR_RETURN(const std::string bias, fields.StringOr("bias", "none"));
  if (bias != "none")
    return fields.Refuse("bias", "only \"none\" is supported; train the adapter without biases",
                         kUnimplemented);
  // All target modules of our bases are nn.Linear, for which PEFT itself ignores fan_in_fan_out.
  return fields.BoolOr("fan_in_fan_out", false).status();
}

// These initialisations subtract the first adapter from the base's weights, at training and again whenever
// PEFT loads the adapter: on the frozen base it would compute something else. (PEFT can convert such an
// adapter to a plain one: save_pretrained(path_initial_model_for_weight_conversion=…).)
Status CheckInitialisation(const JsonFields& fields) {
  const Json* value = fields.Find("init_lora_weights");
  if (value == nullptr || value->is_boolean()) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::string kind, fields.String("init_lora_weights"));
  const std::string lower = absl::AsciiStrToLower(kind);
  for (const char* harmless : {"gaussian", "eva", "orthogonal", "mica", "true", "false"}) {
    if (lower == harmless) return absl::OkStatus();
  }
  return fields.Refuse("init_lora_weights",
                       "which changes the base's weights; convert the adapter with PEFT's "
                       "path_initial_model_for_weight_conversion",
                       kUnimplemented);
}

StatusOr<ModuleSelector> ReadSelector(const JsonFields& fields, std::string_view key) {
  ModuleSelector out;
  const Json* value = fields.Find(key);
  if (value != nullptr && value->is_string()) {
    out.regex = value->get<std::string>();
    return out;
  }
  ASSIGN_OR_RETURN(out.names, fields.Strings(key));
  for (const std::string& name : out.names) {
    if (name.empty()) return fields.Refuse(key, "an empty name matches nothing");
  }
  return out;
}

Status ReadTargets(const JsonFields& fields, PeftConfig* config) {
  ASSIGN_OR_RETURN(config->targets, ReadSelector(fields, "target_modules"));
  if (config->targets.empty())
    return fields.Refuse("target_modules", "expected names, a pattern or \"all-linear\"");
  if (config->targets.regex && absl::EqualsIgnoreCase(*config->targets.regex, "all-linear")) {
    config->all_linear = true;
    config->targets = {};
  }
  ASSIGN_OR_RETURN(config->excluded, ReadSelector(fields, "exclude_modules"));
  const bool by_name = !config->targets.names.empty();
  if (fields.Has("layers_to_transform")) {
    ASSIGN_OR_RETURN(std::vector<int64_t> layers, fields.Ints("layers_to_transform", 0, INT32_MAX));
    if (!layers.empty()) {
      if (!by_name) return fields.Refuse("layers_to_transform", "it needs a list of names in target_modules");
      config->layers_to_transform = std::move(layers);
    }
  }
  ASSIGN_OR_RETURN(config->layers_patterns, fields.Strings("layers_pattern"));
  std::erase(config->layers_patterns, "");
  if (!config->layers_patterns.empty() && !config->layers_to_transform) {
    return fields.Refuse("layers_pattern", "it needs layers_to_transform");
  }
  return absl::OkStatus();
}

Status ReadPatterns(const JsonFields& fields, const LoraLimits& limits, PeftConfig* config) {
  if (fields.Has("rank_pattern")) {
    ASSIGN_OR_RETURN(const JsonFields ranks, fields.Object("rank_pattern"));
    for (const auto& [key, value] : ranks.object().items()) {
      ASSIGN_OR_RETURN(const int64_t rank, ranks.Int(key, 1, limits.max_rank));
      config->rank_pattern.emplace_back(key, static_cast<int>(rank));
    }
  }
  if (fields.Has("alpha_pattern")) {
    ASSIGN_OR_RETURN(const JsonFields alphas, fields.Object("alpha_pattern"));
    for (const auto& [key, value] : alphas.object().items()) {
      ASSIGN_OR_RETURN(const double alpha, alphas.Number(key, -kMaxAlpha, kMaxAlpha));
      config->alpha_pattern.emplace_back(key, alpha);
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<PeftConfig> ParsePeftConfig(std::string_view text, std::string_view name, const LoraLimits& limits) {
  ASSIGN_OR_RETURN(const Json json, ParseJson(text, name));
  ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(json, name));
  RETURN_IF_ERROR(RefuseUnsupported(fields));
  RETURN_IF_ERROR(CheckInitialisation(fields));
  PeftConfig config;
  ASSIGN_OR_RETURN(const int64_t rank, fields.IntOr("r", config.rank, 1, limits.max_rank));
  config.rank = static_cast<int>(rank);
  ASSIGN_OR_RETURN(config.alpha, fields.NumberOr("lora_alpha", config.alpha, -kMaxAlpha, kMaxAlpha));
  ASSIGN_OR_RETURN(config.use_rslora, fields.BoolOr("use_rslora", false));
  RETURN_IF_ERROR(ReadTargets(fields, &config));
  RETURN_IF_ERROR(ReadPatterns(fields, limits, &config));
  return config;
}

}  // namespace coterie
