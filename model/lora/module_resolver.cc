#include "model/lora/module_resolver.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "model/format/model_files.h"
#include "model/lora/name_pattern.h"

namespace coterie {
namespace {

constexpr std::string_view kModuleNames[kLoraModuleCount] = {
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",   "self_attn.o_proj", "mlp.gate_proj",
    "mlp.up_proj",      "mlp.down_proj",    "self_attn.qkv_proj", "mlp.gate_up_proj"};
constexpr WeightRole kModuleRoles[kLoraModuleCount] = {
    WeightRole::kQ,  WeightRole::kK,    WeightRole::kV,   WeightRole::kO,     WeightRole::kGate,
    WeightRole::kUp, WeightRole::kDown, WeightRole::kQkv, WeightRole::kGateUp};

bool IsNameOrSuffix(std::string_view name, std::string_view selector) {
  if (name == selector) return true;
  return name.size() > selector.size() && absl::EndsWith(ToAbsl(name), ToAbsl(selector)) &&
         name[name.size() - selector.size() - 1] == '.';
}

bool IsPlainName(std::string_view key) {
  return std::all_of(key.begin(), key.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '.'; });
}

// A selector ready for matching.
class SelectorMatcher {
 public:
  static StatusOr<SelectorMatcher> Make(const ModuleSelector& selector, std::string_view what) {
    SelectorMatcher out(selector);
    if (selector.regex) {
      ASSIGN_OR_RETURN(out.regex_, NamePattern::Compile(*selector.regex, what));
    }
    return out;
  }
  // `used` gets a mark for each listed name that fits.
  StatusOr<bool> Matches(std::string_view name, std::vector<bool>* used) const {
    if (regex_) return regex_->FullMatch(name);
    bool matched = false;
    for (size_t i = 0; i < selector_->names.size(); ++i) {
      if (!IsNameOrSuffix(name, selector_->names[i])) continue;
      matched = true;
      if (used != nullptr) (*used)[i] = true;
    }
    return matched;
  }

 private:
  explicit SelectorMatcher(const ModuleSelector& selector) : selector_(&selector) {}
  const ModuleSelector* selector_;
  std::optional<NamePattern> regex_;
};

// The keys of rank_pattern or alpha_pattern; the first that matches `(.*\.)?(key)$` counts.
class PatternKeys {
 public:
  template <typename V>
  static StatusOr<PatternKeys> Make(const std::vector<std::pair<std::string, V>>& entries,
                                    std::string_view what, int* regexes_left) {
    PatternKeys out;
    for (const auto& [key, value] : entries) {
      Key compiled{key, std::nullopt};
      if (!IsPlainName(key)) {
        if (--*regexes_left < 0) {
          return absl::InvalidArgumentError(
              absl::StrCat(ToAbsl(what), ": too many regular expressions, at ", Quoted(key)));
        }
        ASSIGN_OR_RETURN(compiled.regex, NamePattern::Compile(absl::StrCat("(.*\\.)?(", key, ")$"), what));
      }
      out.keys_.push_back(std::move(compiled));
    }
    return out;
  }
  // The index of the entry, or -1.
  StatusOr<int> Find(std::string_view name) const {
    for (size_t i = 0; i < keys_.size(); ++i) {
      bool matched = false;
      if (keys_[i].regex) {
        ASSIGN_OR_RETURN(matched, keys_[i].regex->MatchStart(name));
      } else {
        matched = MatchesPlain(name, keys_[i].text);
      }
      if (matched) return static_cast<int>(i);
    }
    return -1;
  }

 private:
  struct Key {
    std::string text;
    std::optional<NamePattern> regex;
  };
  // The same expression without a regex engine: a dot stands for any character.
  static bool MatchesPlain(std::string_view name, std::string_view key) {
    if (key.size() > name.size()) return false;
    const size_t at = name.size() - key.size();
    if (at > 0 && name[at - 1] != '.') return false;
    for (size_t i = 0; i < key.size(); ++i) {
      if (key[i] != '.' && key[i] != name[at + i]) return false;
    }
    return true;
  }
  std::vector<Key> keys_;
};

// The patterns by which PEFT reads the layer's number from a name.
StatusOr<std::vector<NamePattern>> LayerPatterns(const PeftConfig& peft, std::string_view what) {
  std::vector<NamePattern> out;
  if (!peft.layers_to_transform) return out;
  std::vector<std::string> texts;
  for (const std::string& pattern : peft.layers_patterns) {
    texts.push_back(absl::StrCat("(?:^|.*?\\.)", pattern, "\\.(?P<idx>\\d+)\\."));
  }
  if (texts.empty()) texts.push_back(".*?\\.[^.]*\\.(?P<idx>\\d+)\\.");
  if (texts.size() > 16) {
    return absl::InvalidArgumentError(
        absl::StrCat(ToAbsl(what), " has ", texts.size(), " patterns, the limit is 16"));
  }
  for (const std::string& text : texts) {
    ASSIGN_OR_RETURN(NamePattern pattern, NamePattern::Compile(text, what));
    out.push_back(std::move(pattern));
  }
  return out;
}

// "q_proj, k_proj, …"
std::string ModulesOf(const ModelConfig& base) {
  std::vector<absl::string_view> names;
  for (int m = 0; m < kLoraModuleCount; ++m) {
    if (!HasModule(base, static_cast<LoraModule>(m))) continue;
    const std::string_view name = kModuleNames[m];
    names.push_back(ToAbsl(name.substr(name.find('.') + 1)));
  }
  return absl::StrJoin(names, ", ");
}

Status DoesNotFit(std::string_view name, std::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(ToAbsl(name), ": ", ToAbsl(what)));
}

class Resolver {
 public:
  Resolver(const PeftConfig& peft, const ModelConfig& base, std::string_view name, const LoraLimits& limits)
      : peft_(peft), base_(base), name_(name), limits_(limits) {}

  StatusOr<std::vector<AdaptedModule>> Resolve() {
    RETURN_IF_ERROR(CompilePatterns());
    RETURN_IF_ERROR(CheckLayers());
    std::vector<AdaptedModule> out;
    used_.assign(peft_.targets.names.size(), false);
    for (int layer = 0; layer < base_.n_layers; ++layer) {
      for (int m = 0; m < kLoraModuleCount; ++m) {
        const auto module = static_cast<LoraModule>(m);
        if (!HasModule(base_, module)) continue;
        const std::string name = LoraModuleName(layer, module);
        ASSIGN_OR_RETURN(const bool is_adapted, IsAdapted(name));
        if (!is_adapted) continue;
        ASSIGN_OR_RETURN(AdaptedModule adapted, Adapt(layer, module, name));
        out.push_back(std::move(adapted));
      }
    }
    RETURN_IF_ERROR(CheckAllTargetsUsed());
    if (out.empty()) {
      return DoesNotFit(name_,
                        "fields \"target_modules\", \"exclude_modules\" and \"layers_to_transform\" leave no "
                        "linear layer of this base: the adapter would change nothing");
    }
    return out;
  }

 private:
  Status CompilePatterns() {
    ASSIGN_OR_RETURN(targets_, SelectorMatcher::Make(peft_.targets, Field("target_modules")));
    ASSIGN_OR_RETURN(excluded_, SelectorMatcher::Make(peft_.excluded, Field("exclude_modules")));
    ASSIGN_OR_RETURN(layer_patterns_, LayerPatterns(peft_, Field("layers_pattern")));
    int regexes_left = limits_.max_regexes;
    ASSIGN_OR_RETURN(ranks_, PatternKeys::Make(peft_.rank_pattern, Field("rank_pattern"), &regexes_left));
    ASSIGN_OR_RETURN(alphas_, PatternKeys::Make(peft_.alpha_pattern, Field("alpha_pattern"), &regexes_left));
    return absl::OkStatus();
  }

  // Whether PEFT would wrap the linear layer with this name.
  StatusOr<bool> IsAdapted(std::string_view name) {
    if (!peft_.all_linear) {
      ASSIGN_OR_RETURN(const bool is_targeted, targets_->Matches(name, &used_));
      if (!is_targeted) return false;
    }
    ASSIGN_OR_RETURN(const bool is_excluded, excluded_->Matches(name, nullptr));
    if (is_excluded) return false;
    return IsInLayers(name);
  }

  StatusOr<AdaptedModule> Adapt(int layer, LoraModule module, const std::string& name) const {
    ASSIGN_OR_RETURN(const int rank_entry, ranks_.Find(name));
    ASSIGN_OR_RETURN(const int alpha_entry, alphas_.Find(name));
    const int rank = rank_entry < 0 ? peft_.rank : peft_.rank_pattern[static_cast<size_t>(rank_entry)].second;
    const double alpha =
        alpha_entry < 0 ? peft_.alpha : peft_.alpha_pattern[static_cast<size_t>(alpha_entry)].second;
    const LoraModuleSize size = SizeOfModule(base_, module);
    return AdaptedModule{.layer = layer,
                         .module = module,
                         .rank = rank,
                         .scale = alpha / (peft_.use_rslora ? std::sqrt(static_cast<double>(rank)) : rank),
                         .n_in = size.n_in,
                         .n_out = size.n_out,
                         .name = name};
  }

  Status CheckAllTargetsUsed() const {
    for (size_t i = 0; i < used_.size(); ++i) {
      if (used_[i]) continue;
      return DoesNotFit(name_, absl::StrCat("field \"target_modules\" names ", Quoted(peft_.targets.names[i]),
                                            ", which is no linear layer of this base that can be adapted (",
                                            ToAbsl(ArchitectureName(base_.architecture)), ", ",
                                            base_.n_layers, " layers: ", ModulesOf(base_), ")"));
    }
    return absl::OkStatus();
  }

  std::string Field(std::string_view field) const {
    return absl::StrCat(ToAbsl(name_), ": field ", Quoted(field));
  }

  Status CheckLayers() const {
    if (!peft_.layers_to_transform) return absl::OkStatus();
    for (const int64_t layer : *peft_.layers_to_transform) {
      if (layer < base_.n_layers) continue;
      return DoesNotFit(name_, absl::StrCat("field \"layers_to_transform\" names layer ", layer,
                                            ", the base has ", base_.n_layers, " layers"));
    }
    return absl::OkStatus();
  }

  StatusOr<bool> IsInLayers(std::string_view name) const {
    if (!peft_.layers_to_transform) return true;
    // A full name in target_modules counts whatever its layer, as in PEFT.
    const std::vector<std::string>& names = peft_.targets.names;
    if (std::find(names.begin(), names.end(), name) != names.end()) return true;
    for (const NamePattern& pattern : layer_patterns_) {
      ASSIGN_OR_RETURN(const int index, pattern.MatchIndex(name));
      if (index < 0) continue;
      const std::vector<int64_t>& layers = *peft_.layers_to_transform;
      return std::find(layers.begin(), layers.end(), index) != layers.end();
    }
    return false;
  }

  const PeftConfig& peft_;
  const ModelConfig& base_;
  const std::string_view name_;
  const LoraLimits& limits_;
  std::optional<SelectorMatcher> targets_, excluded_;
  PatternKeys ranks_, alphas_;
  std::vector<NamePattern> layer_patterns_;
  std::vector<bool> used_;  // the names of target_modules that fit a linear layer
};

}  // namespace

std::string LoraModuleName(int layer, LoraModule module) {
  return absl::StrCat("model.layers.", layer, ".", ToAbsl(kModuleNames[static_cast<int>(module)]));
}

bool HasModule(const ModelConfig& base, LoraModule module) {
  return HasWeight(base, kModuleRoles[static_cast<int>(module)]);
}

LoraModuleSize SizeOfModule(const ModelConfig& base, LoraModule module) {
  const std::vector<int64_t> shape = WeightShape(base, kModuleRoles[static_cast<int>(module)]);
  return {.n_in = static_cast<int>(shape[1]), .n_out = static_cast<int>(shape[0])};
}

StatusOr<std::vector<AdaptedModule>> ResolveModules(const PeftConfig& peft, const ModelConfig& base,
                                                    std::string_view name, const LoraLimits& limits) {
  return Resolver(peft, base, name, limits).Resolve();
}

StatusOr<std::vector<std::string>> UnusedPatternKeys(const PeftConfig& peft,
                                                     const std::vector<std::string>& modules,
                                                     const LoraLimits& limits) {
  std::vector<std::string> unused;
  int regexes_left = limits.max_regexes;
  const auto look = [&](const auto& entries, std::string_view field) -> Status {
    ASSIGN_OR_RETURN(const PatternKeys keys, PatternKeys::Make(entries, field, &regexes_left));
    std::vector<bool> used(entries.size());
    for (const std::string& module : modules) {
      ASSIGN_OR_RETURN(const int entry, keys.Find(module));
      if (entry >= 0) used[static_cast<size_t>(entry)] = true;
    }
    for (size_t i = 0; i < used.size(); ++i) {
      if (!used[i]) unused.push_back(absl::StrCat(ToAbsl(field), " ", Quoted(entries[i].first)));
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(look(peft.rank_pattern, "rank_pattern"));
  RETURN_IF_ERROR(look(peft.alpha_pattern, "alpha_pattern"));
  return unused;
}

}  // namespace coterie
