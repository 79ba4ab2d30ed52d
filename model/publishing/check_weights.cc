#include "model/publishing/check_weights.h"

#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "model/format/describe.h"
#include "model/lora/lora_magnitude.h"
#include "model/lora/tensor_words.h"

namespace coterie {
namespace {

struct FactorPair {
  const TensorView* a = nullptr;
  const TensorView* b = nullptr;
};

// The module of "base_model.model.<module>.lora_A.weight" and which factor it is.
std::optional<std::pair<std::string, char>> FactorOf(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  for (const char factor : {'A', 'B'}) {
    const std::string end = absl::StrCat(".lora_", std::string(1, factor), ".weight");
    if (name.ends_with(end) && name.size() > kPrefix.size() + end.size()) {
      return std::pair(std::string(name.substr(kPrefix.size(), name.size() - kPrefix.size() - end.size())),
                       factor);
    }
  }
  return std::nullopt;
}

std::map<std::string, FactorPair> PairsOf(const SafetensorsFile& file) {
  std::map<std::string, FactorPair> pairs;
  for (const TensorView& tensor : file.tensors()) {
    const auto factor = FactorOf(tensor.name);
    if (!factor.has_value()) continue;
    FactorPair& pair = pairs[factor->first];
    (factor->second == 'A' ? pair.a : pair.b) = &tensor;
  }
  return pairs;
}

class WeightsCheck {
 public:
  WeightsCheck(const SafetensorsFile& file, const PeftConfig* peft, const LoraLimits& limits,
               std::vector<Status>* problems)
      : file_(file), peft_(peft), limits_(limits), problems_(problems) {}

  void Run() {
    const auto pairs = PairsOf(file_);
    for (const TensorView& tensor : file_.tensors()) {
      if (!FactorOf(tensor.name).has_value()) problems_->push_back(WrongName(tensor.name));
    }
    for (const auto& [name, type] : file_.other_tensors()) {
      Refuse(absl::StrCat("tensor ", Quoted(name), " has type ", Quoted(type),
                          "; an adapter's are F32, F16 or BF16"));
    }
    if (file_.tensors().empty() && file_.other_tensors().empty()) {
      Refuse("the file holds no tensor at all; save the adapter again");
    }
    bool sound = !pairs.empty();
    bool changes_something = false;
    for (const auto& [module, pair] : pairs) {
      const std::optional<bool> changes = CheckPair(module, pair);
      sound = sound && changes.has_value();
      changes_something = changes_something || changes.value_or(false);
    }
    if (sound && !changes_something) {
      Refuse(absl::StrCat("the adapter would change nothing: in each of its ", pairs.size(),
                          " modules the scale (field \"lora_alpha\") is 0 or lora_A or lora_B is all zeros"));
    }
  }

 private:
  void Refuse(std::string_view what) {
    problems_->push_back(absl::InvalidArgumentError(absl::StrCat(file_.name(), ": ", ToAbsl(what))));
  }

  Status WrongName(const std::string& name) const {
    // What is known by its name has words of its own; for the rest those would speak of a base.
    const Status known = UnexpectedTensor(file_.name(), name);
    if (absl::IsUnimplemented(known)) return known;
    return MissingTensor(file_, "base_model.model.….lora_A.weight", name.substr(0, name.find(".lora_")));
  }

  // Whether the pair changes anything; nothing where it is wrong.
  std::optional<bool> CheckPair(const std::string& module, const FactorPair& pair) {
    if (pair.a == nullptr || pair.b == nullptr) {
      Refuse(absl::StrCat("tensor ", Quoted((pair.a == nullptr ? pair.b : pair.a)->name), " has no lora_",
                          pair.a == nullptr ? "A" : "B",
                          " beside it; the file is incomplete: save the adapter again"));
      return std::nullopt;
    }
    bool sound = true;
    for (const TensorView* tensor : {pair.a, pair.b}) {
      if (tensor->shape.size() != 2) {
        Refuse(absl::StrCat("tensor ", Quoted(tensor->name), " has shape ", ShapeText(tensor->shape),
                            ", want two dimensions"));
        sound = false;
      } else if (!InspectValues(*tensor).finite) {
        Refuse(
            absl::StrCat("tensor ", Quoted(tensor->name), " holds infinity or NaN: its training diverged"));
        sound = false;
      }
    }
    if (!sound) return std::nullopt;
    const int64_t rank = pair.a->shape[0];
    if (rank != pair.b->shape[1]) {
      Refuse(absl::StrCat("lora_A of ", Shown(module), " has shape ", ShapeText(pair.a->shape),
                          " and its lora_B ", ShapeText(pair.b->shape), ": ranks ", rank, " and ",
                          pair.b->shape[1]));
      return std::nullopt;
    }
    if (rank < 1 || rank > limits_.max_rank) {
      Refuse(absl::StrCat("lora_A of ", Shown(module), " has rank ", rank, ", the limits are 1 and ",
                          limits_.max_rank));
      return std::nullopt;
    }
    if (peft_ == nullptr) return true;
    if (peft_->rank_pattern.empty() && rank != peft_->rank) {
      Refuse(absl::StrCat("lora_A of ", Shown(module), " has rank ", rank,
                          ", field \"r\" of the configuration is ", peft_->rank,
                          "; is adapter_config.json another adapter's?"));
      return std::nullopt;
    }
    const double divisor =
        peft_->use_rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank);
    const double scale = peft_->alpha / divisor;
    // With a pattern the module's own alpha may be another.
    const bool scale_is_known = peft_->alpha_pattern.empty();
    if (const double term = LargestTerm(*pair.a, *pair.b, scale); scale_is_known && !(term < kTermLimit)) {
      Refuse(absl::StrCat("the update of ", Shown(module), " stretches its input by ", term,
                          ", the limit is ", kTermLimit,
                          "; the training diverged, publish an earlier checkpoint"));
      return std::nullopt;
    }
    return (scale != 0 || !scale_is_known) && !InspectValues(*pair.a).zero && !InspectValues(*pair.b).zero;
  }

  const SafetensorsFile& file_;
  const PeftConfig* const peft_;
  const LoraLimits limits_;
  std::vector<Status>* const problems_;
};

}  // namespace

void CheckWeightsAlone(const SafetensorsFile& file, const PeftConfig* peft, const LoraLimits& limits,
                       std::vector<Status>* problems) {
  WeightsCheck(file, peft, limits, problems).Run();
}

std::string WeightsInWords(const SafetensorsFile& file) {
  std::set<std::string> modules, types;
  std::set<int64_t> ranks;
  size_t n_bytes = 0;
  const auto pairs = PairsOf(file);
  for (const auto& [module, pair] : pairs) {
    modules.insert(Shown(std::string_view(module).substr(module.rfind('.') + 1)));
    for (const TensorView* tensor : {pair.a, pair.b}) {
      if (tensor == nullptr) continue;
      types.insert(std::string(DTypeName(tensor->dtype)));
      n_bytes += tensor->bytes.size();
    }
    if (pair.a != nullptr && !pair.a->shape.empty()) ranks.insert(pair.a->shape[0]);
  }
  if (ranks.empty()) return "";
  const std::string rank = ranks.size() == 1 ? absl::StrCat(*ranks.begin())
                                             : absl::StrCat(*ranks.begin(), " to ", *ranks.rbegin());
  return absl::StrFormat("LoRA of rank %s on %d modules (%s), %s, %.1f MB", rank, pairs.size(),
                         absl::StrJoin(modules, ", "), absl::StrJoin(types, " and "),
                         static_cast<double>(n_bytes) * 1e-6);
}

}  // namespace coterie
