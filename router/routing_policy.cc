#include "router/routing_policy.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "common/quoted.h"
#include "router/policies.h"
#include "router/routing_limits.h"

namespace coterie {
namespace {

using Selection = RoutingOptions::Selection;

constexpr size_t kMaxRules = 10'000;

Status CheckRange(std::string_view option, float value, double low, double high) {
  // As flags are given: 0.001 is in range though its float is a little below. NaN falls through.
  if (value >= static_cast<float>(low) && value <= static_cast<float>(high)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("routing option ", ToAbsl(option), " = ", value, " is outside ", low, "..", high));
}

Status CheckClassifier(const ClassifierWeights& classifier) {
  const size_t n_classes = classifier.classes.size();
  if (n_classes == 0) return absl::InvalidArgumentError("routing option classifier has no classes");
  std::set<std::string> names;
  for (const std::string& name : classifier.classes) {
    RETURN_IF_ERROR(Annotate(ValidateExpertName(name), "routing option classifier"));
    if (!names.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("routing option classifier names class ", name, " twice"));
    }
  }
  if (classifier.bias.size() != n_classes || classifier.weights.empty() ||
      classifier.weights.size() % n_classes != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "routing option classifier: ", n_classes, " classes with ", classifier.bias.size(), " biases and ",
        classifier.weights.size(), " weights, want [n_classes] and [n_classes, dim]"));
  }
  const auto finite = [](float value) { return std::isfinite(value); };
  if (!std::all_of(classifier.weights.begin(), classifier.weights.end(), finite) ||
      !std::all_of(classifier.bias.begin(), classifier.bias.end(), finite)) {
    return absl::InvalidArgumentError("routing option classifier has a weight that is not a finite number");
  }
  return absl::OkStatus();
}

Status Check(const RoutingOptions& options) {
  if (options.rules.size() > kMaxRules) {
    return absl::InvalidArgumentError(absl::StrCat("routing option rules has ", options.rules.size(),
                                                   " entries, the limit is ", kMaxRules));
  }
  for (const RoutingOptions::Rule& rule : options.rules) {
    if (rule.domain.empty()) return absl::InvalidArgumentError("routing option rules has an empty domain");
    RETURN_IF_ERROR(Annotate(ValidateExpertName(rule.expert), absl::StrCat("rule for domain ", rule.domain)));
  }
  RETURN_IF_ERROR(CheckRange("min_score", options.min_score, -1, 1));
  RETURN_IF_ERROR(CheckRange("min_margin", options.min_margin, 0, 2));
  if (options.top_k < 1 || options.top_k > kMaxTopK) {
    return absl::InvalidArgumentError(
        absl::StrCat("routing option top_k = ", options.top_k, " is outside 1..", kMaxTopK));
  }
  RETURN_IF_ERROR(CheckRange("temperature", options.temperature, kMinRouteTemperature, 100));
  RETURN_IF_ERROR(CheckRange("confident_margin", options.confident_margin, 0, 2));
  RETURN_IF_ERROR(CheckRange("adaptive_mass", options.adaptive_mass, kMinAdaptiveMass, 1));
  return options.selection == Selection::kClassifier ? CheckClassifier(options.classifier) : absl::OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<const RoutingPolicy>> CreateRoutingPolicy(RoutingOptions options) {
  RETURN_IF_ERROR(Check(options));
  std::unique_ptr<const RoutingPolicy> policy;
  switch (options.selection) {
    case Selection::kNearest:
      policy = router_internal::MakeNearestPolicy();
      break;
    case Selection::kTopK:
      policy = router_internal::MakeTopKPolicy(CollaborationMode::kBlend, options.top_k, options.temperature);
      break;
    case Selection::kMixture:
      policy =
          router_internal::MakeTopKPolicy(CollaborationMode::kMixture, options.top_k, options.temperature);
      break;
    case Selection::kAdaptiveK:
      policy = router_internal::MakeAdaptiveKPolicy(options.top_k, options.temperature,
                                                    options.confident_margin, options.adaptive_mass);
      break;
    case Selection::kClassifier:
      policy = router_internal::MakeClassifierPolicy(std::move(options.classifier));
      break;
  }
  policy = router_internal::MakeAbstainPolicy(std::move(policy), options.min_score, options.min_margin,
                                              options.selection != Selection::kClassifier);
  if (options.use_rules)
    policy = router_internal::MakeRulesPolicy(std::move(options.rules), std::move(policy));
  return policy;
}

StatusOr<RoutingOptions::Selection> ParseSelection(std::string_view text) {
  if (text == "nearest") return Selection::kNearest;
  if (text == "top_k") return Selection::kTopK;
  if (text == "mixture") return Selection::kMixture;
  if (text == "adaptive_k") return Selection::kAdaptiveK;
  if (text == "classifier") return Selection::kClassifier;
  return absl::InvalidArgumentError(absl::StrCat(
      "routing policy ", Quoted(text), " is none of nearest, top_k, mixture, adaptive_k, classifier"));
}

RoutePlan PlanForBase(uint64_t catalogue_generation) {
  RoutePlan plan;
  plan.base = true;
  plan.policy = "base";
  plan.reason = "asked for the base";
  plan.catalogue_generation = catalogue_generation;
  return plan;
}

RoutePlan PlanForExpert(const ExpertRef& expert, uint64_t catalogue_generation) {
  RoutePlan plan;
  plan.experts.push_back({.name = expert.name, .adapter = expert.digest});
  plan.policy = "by_name";
  plan.reason = "asked for by name";
  plan.catalogue_generation = catalogue_generation;
  return plan;
}

RoutePlan PlanForMembers(std::vector<PlannedExpert> members, CollaborationMode mode,
                         uint64_t catalogue_generation) {
  RoutePlan plan;
  plan.experts = std::move(members);
  router_internal::SetMode(mode, &plan);
  plan.policy = "by_name";
  plan.reason = plan.experts.size() < 2 ? "asked for by name"
                : mode == CollaborationMode::kGated
                    ? "asked for by name, under a gate"
                    : absl::StrCat("asked for by name, as a ", ToAbsl(NameOf(mode)));
  plan.catalogue_generation = catalogue_generation;
  return plan;
}

}  // namespace coterie
