#include "gateway/routing/routing_files.h"

#include <sys/stat.h>

#include <cstring>
#include <utility>

#include "absl/strings/str_split.h"
#include "common/file.h"
#include "common/ids.h"
#include "common/quoted.h"
#include "common/sequence.h"
#include "model/format/safetensors.h"
#include "model/store/yaml_tree.h"

namespace coterie::gateway {
namespace {

using Rule = coterie::RoutingOptions::Rule;

constexpr size_t kMaxDomainBytes = kMaxLabelBytes;  // what a request may declare as a tag

Status AddRule(const std::string& domain, const YamlValue& expert, std::string_view name,
               std::vector<Rule>* rules) {
  const std::string place = absl::StrCat(ToAbsl(name), " line ", expert.line, ": field rules.", domain);
  if (expert.kind != YamlValue::Kind::kScalar) {
    return absl::InvalidArgumentError(
        absl::StrCat(place, " must be an expert's name or a list of such names"));
  }
  RETURN_IF_ERROR(Annotate(ValidateExpertName(expert.scalar), place));
  rules->push_back({domain, expert.scalar});
  return absl::OkStatus();
}

StatusOr<TensorView> FloatTensor(const SafetensorsFile& file, const char* tensor, size_t n_dimensions) {
  ASSIGN_OR_RETURN(TensorView view, file.Get(tensor));
  if (view.dtype != DType::kF32 || view.shape.size() != n_dimensions) {
    return absl::InvalidArgumentError(absl::StrCat(
        file.name(), ": tensor ", tensor, " has type ", ToAbsl(DTypeName(view.dtype)), " and ",
        view.shape.size(), " dimensions, want F32 ", n_dimensions == 2 ? "[classes, dim]" : "[classes]"));
  }
  return view;
}

std::vector<float> FloatsOf(const TensorView& view) {
  std::vector<float> values(view.bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

}  // namespace

StatusOr<std::vector<Rule>> ParseRules(std::string_view yaml, std::string_view name) {
  const YamlLimits limits{.max_bytes = RoutingFiles::kMaxRulesBytes, .max_depth = 8, .max_values = 65536};
  ASSIGN_OR_RETURN(const YamlValue root, ParseYaml(yaml, name, limits));
  const auto refuse = [name](int line, std::string_view words) {
    return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), " line ", line, ": ", ToAbsl(words)));
  };
  if (root.kind != YamlValue::Kind::kMap) return refuse(root.line, "want a map with the field rules");
  for (size_t i = 0; i < root.keys.size(); ++i) {
    if (root.keys[i] != "rules") {
      return refuse(root.items[i].line, absl::StrCat("unknown field ", Quoted(root.keys[i]), ", want rules"));
    }
  }
  const YamlValue* matrix = root.Find("rules");
  if (matrix == nullptr) return refuse(root.line, "the field rules is missing");
  if (matrix->kind != YamlValue::Kind::kMap) {
    return refuse(matrix->line, "field rules must be a map from a domain to an expert or a list of experts");
  }
  std::vector<Rule> rules;
  for (size_t i = 0; i < matrix->keys.size(); ++i) {
    const std::string& domain = matrix->keys[i];
    const YamlValue& experts = matrix->items[i];
    if (domain.empty() || domain.size() > kMaxDomainBytes) {
      return refuse(experts.line, absl::StrCat("domain ", Quoted(domain), " has ", domain.size(),
                                               " bytes, the limits are 1 and ", kMaxDomainBytes));
    }
    if (experts.kind != YamlValue::Kind::kList) {
      RETURN_IF_ERROR(AddRule(domain, experts, name, &rules));
      continue;
    }
    if (experts.items.empty()) {
      return refuse(experts.line, absl::StrCat("field rules.", domain, " names no expert"));
    }
    for (const YamlValue& expert : experts.items) RETURN_IF_ERROR(AddRule(domain, expert, name, &rules));
  }
  return rules;
}

StatusOr<ClassifierWeights> ParseClassifier(std::span<const uint8_t> bytes, std::string_view name,
                                            size_t dim) {
  const SafetensorsLimits limits{
      .max_header_bytes = 4 << 20, .max_tensors = 16, .max_metadata_bytes = 2 << 20};
  ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Parse(bytes, name, limits));
  for (const TensorView& tensor : file.tensors()) {
    if (tensor.name != "weight" && tensor.name != "bias") {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": unknown tensor ", Quoted(tensor.name), ", want weight and bias"));
    }
  }
  ASSIGN_OR_RETURN(const TensorView weight, FloatTensor(file, "weight", 2));
  ASSIGN_OR_RETURN(const TensorView bias, FloatTensor(file, "bias", 1));
  const auto classes = file.metadata().find("classes");
  if (classes == file.metadata().end()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": the metadata lacks classes, the experts' names with commas between"));
  }
  ClassifierWeights result;
  result.classes = absl::StrSplit(classes->second, ',');
  const auto n_classes = static_cast<int64_t>(result.classes.size());
  if (weight.shape[0] != n_classes || bias.shape[0] != n_classes) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": metadata classes names ", n_classes,
                                                   " experts, weight has ", weight.shape[0],
                                                   " rows and bias ", bias.shape[0], " values"));
  }
  if (weight.shape[1] != static_cast<int64_t>(dim)) {
    return absl::InvalidArgumentError(
        absl::StrCat(file.name(), ": weight has dimension ", weight.shape[1], ", the embedder's is ", dim));
  }
  result.weights = FloatsOf(weight);
  result.bias = FloatsOf(bias);
  // What is left to check are names and values, which the policy does.
  coterie::RoutingOptions options;
  options.selection = coterie::RoutingOptions::Selection::kClassifier;
  options.classifier = result;
  RETURN_IF_ERROR(Annotate(CreateRoutingPolicy(std::move(options)).status(), file.name()));
  return result;
}

RoutingFiles::Identity RoutingFiles::Identify(const std::string& path) {
  struct stat info = {};
  if (path.empty() || ::stat(path.c_str(), &info) != 0) return {};
  return {static_cast<int64_t>(info.st_dev), static_cast<int64_t>(info.st_ino),
          info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec, info.st_size};
}

Status RoutingFiles::Read(coterie::RoutingOptions* options) const {
  coterie::RoutingOptions next = *options;
  if (!rules_.empty()) {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(rules_, kMaxRulesBytes));
    ASSIGN_OR_RETURN(next.rules, ParseRules(text, rules_));
    RETURN_IF_ERROR(Annotate(CreateRoutingPolicy({.rules = next.rules}).status(), rules_));
  }
  if (!classifier_.empty()) {
    // Read, not mapped: a file that shrinks under a mapping would end the process.
    ASSIGN_OR_RETURN(const std::string bytes, ReadFile(classifier_, kMaxClassifierBytes));
    ASSIGN_OR_RETURN(
        next.classifier,
        ParseClassifier({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}, classifier_, dim_));
  }
  *options = std::move(next);
  return absl::OkStatus();
}

StatusOr<bool> RoutingFiles::Refresh(coterie::RoutingOptions* options) {
  const std::array<Identity, 2> now = {Identify(rules_), Identify(classifier_)};
  if (read_ && now == seen_) return false;
  seen_ = now;
  const Status status = Read(options);
  // What failed is tried again even if nothing about the file changes: there may have been no permission, no
  // descriptor left, or a disk that comes back.
  read_ = status.ok();
  RETURN_IF_ERROR(status);
  return true;
}

}  // namespace coterie::gateway
