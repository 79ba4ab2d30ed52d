#include "model/lora/peft_config.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/json.h"

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
    "merge_weights",  // PEFT before 0.3: whether evaluation merged; it computes the same
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

// What is wrong with a configuration, in the order it is looked at.
class PeftProblems {
 public:
  explicit PeftProblems(std::vector<Status>* all) : all_(all) {}
  void Note(Status status) {
    if (!status.ok()) all_->push_back(std::move(status));
  }
  // The value where it is right; else what *to holds already, and the problem is noted.
  template <typename From, typename To>
  void Take(StatusOr<From> value, To* to) {
    if (value.ok()) {
      *to = static_cast<To>(*std::move(value));
    } else {
      Note(std::move(value).status());
    }
  }

 private:
  std::vector<Status>* const all_;
};

void NoteUnsupported(const JsonFields& fields, PeftProblems* problems) {
  for (const auto& [key, value] : fields.object().items()) {
    if (Contains(kHonoured, key) || Contains(kTrainingOnly, key) || IsOff(value)) continue;
    problems->Note(fields.Refuse(
        key,
        Contains(kUnsupported, key)
            ? "which is not supported; train the adapter without it"
            : "a field that is not known and may change the result; remove it if it is about training only",
        kUnimplemented));
  }
  const auto only = [&](std::string_view key, std::string_view served, std::string_view why) {
    const StatusOr<std::string> value = fields.StringOr(key, served);
    problems->Note(value.ok() && *value != served ? fields.Refuse(key, why, kUnimplemented) : value.status());
  };
  only("peft_type", "LORA", "only \"LORA\" adapters are served");
  only("task_type", "CAUSAL_LM", "only \"CAUSAL_LM\" adapters are served");
  only("bias", "none", "only \"none\" is supported; train the adapter without biases");
  // All target modules of our bases are nn.Linear, for which PEFT itself ignores fan_in_fan_out.
  problems->Note(fields.BoolOr("fan_in_fan_out", false).status());
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

void ReadTargets(const JsonFields& fields, PeftProblems* problems, PeftConfig* config) {
  StatusOr<ModuleSelector> targets = ReadSelector(fields, "target_modules");
  if (targets.ok() && targets->empty()) {
    targets = fields.Refuse("target_modules", "expected names, a pattern or \"all-linear\"");
  }
  problems->Take(std::move(targets), &config->targets);
  if (config->targets.regex && absl::EqualsIgnoreCase(*config->targets.regex, "all-linear")) {
    config->all_linear = true;
    config->targets = {};
  }
  problems->Take(ReadSelector(fields, "exclude_modules"), &config->excluded);
  bool layers_are_wrong = false;
  if (fields.Has("layers_to_transform")) {
    StatusOr<std::vector<int64_t>> layers = fields.Ints("layers_to_transform", 0, INT32_MAX);
    if (layers.ok() && !layers->empty() && config->targets.names.empty()) {
      layers = fields.Refuse("layers_to_transform", "it needs a list of names in target_modules");
    }
    layers_are_wrong = !layers.ok();
    if (layers_are_wrong) {
      problems->Note(layers.status());
    } else if (!layers->empty()) {
      config->layers_to_transform = *std::move(layers);
    }
  }
  problems->Take(fields.Strings("layers_pattern"), &config->layers_patterns);
  std::erase(config->layers_patterns, "");
  if (!config->layers_patterns.empty() && !config->layers_to_transform && !layers_are_wrong) {
    problems->Note(fields.Refuse("layers_pattern", "it needs layers_to_transform"));
  }
}

void ReadPatterns(const JsonFields& fields, const LoraLimits& limits, PeftProblems* problems,
                  PeftConfig* config) {
  const auto read = [&](std::string_view field, const auto& take) {
    if (!fields.Has(field)) return;
    const StatusOr<JsonFields> pattern = fields.Object(field);
    problems->Note(pattern.status());
    if (!pattern.ok()) return;
    for (const auto& [key, value] : pattern->object().items()) take(*pattern, key);
  };
  read("rank_pattern", [&](const JsonFields& ranks, const std::string& key) {
    int rank = 1;
    problems->Take(ranks.Int(key, 1, limits.max_rank), &rank);
    config->rank_pattern.emplace_back(key, rank);
  });
  read("alpha_pattern", [&](const JsonFields& alphas, const std::string& key) {
    double alpha = 1;
    problems->Take(alphas.Number(key, -kMaxAlpha, kMaxAlpha), &alpha);
    config->alpha_pattern.emplace_back(key, alpha);
  });
}

}  // namespace

PeftConfig ReadPeftConfig(std::string_view text, std::string_view name, const LoraLimits& limits,
                          std::vector<Status>* problems) {
  PeftConfig config;
  PeftProblems notes(problems);
  const StatusOr<Json> json = ParseJson(text, name);
  notes.Note(json.status());
  if (!json.ok()) return config;
  const StatusOr<JsonFields> fields = JsonFields::Of(*json, name);
  notes.Note(fields.status());
  if (!fields.ok()) return config;
  NoteUnsupported(*fields, &notes);
  notes.Note(CheckInitialisation(*fields));
  notes.Take(fields->IntOr("r", config.rank, 1, limits.max_rank), &config.rank);
  notes.Take(fields->NumberOr("lora_alpha", config.alpha, -kMaxAlpha, kMaxAlpha), &config.alpha);
  notes.Take(fields->BoolOr("use_rslora", false), &config.use_rslora);
  ReadTargets(*fields, &notes, &config);
  ReadPatterns(*fields, limits, &notes, &config);
  return config;
}

StatusOr<PeftConfig> ParsePeftConfig(std::string_view text, std::string_view name, const LoraLimits& limits) {
  std::vector<Status> problems;
  PeftConfig config = ReadPeftConfig(text, name, limits, &problems);
  if (!problems.empty()) return std::move(problems.front());
  return config;
}

}  // namespace coterie
