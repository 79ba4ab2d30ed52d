#include "gateway/routing/collaboration.h"

#include <algorithm>
#include <cmath>

#include "common/quoted.h"
#include "common/refused_field.h"
#include "router/routing_limits.h"
#include "router/routing_policy.h"

namespace coterie::gateway {
namespace {

// What rounding by hand leaves (0.33, 0.33, 0.33) is meant to be 1; a sum beyond half a 32nd is not.
constexpr double kWeightSumTolerance = 1.0 / 64;

template <typename... Words>
Status Refuse(std::string_view field, const Words&... words) {
  return OfField(absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), words...)), field);
}

StatusOr<CollaborationMode> ParseMode(const std::string& mode) {
  constexpr std::string_view kField = "collaboration.mode";
  if (mode == NameOf(CollaborationMode::kMixture)) return CollaborationMode::kMixture;
  if (mode == NameOf(CollaborationMode::kBlend)) return CollaborationMode::kBlend;
  if (mode.empty()) return Refuse(kField, " is not set; give mixture or blend");
  for (const char* planned : {"gated", "layers", "plan", "defer"}) {
    if (mode != planned) continue;
    return OfField(absl::UnimplementedError(absl::StrCat("collaboration.mode is ", mode,
                                                         ", which is not built yet; mixture and blend are")),
                   kField);
  }
  return Refuse(kField, " is ", Quoted(mode), ", which is none of mixture, blend");
}

std::string MemberField(size_t i, const char* field) {
  return absl::StrCat("collaboration.members[", i, "].", field);
}

StatusOr<ExpertSelector> ParseMember(const std::string& expert, size_t i,
                                     const std::vector<CollaborationMember>& before) {
  const std::string field = MemberField(i, "expert");
  if (expert.empty()) return Refuse(field, " is empty; give a name or name@digest");
  StatusOr<ExpertSelector> selector = ParseExpertSelector(expert);
  if (!selector.ok()) return OfField(Annotate(selector.status(), field), field);
  if (selector->kind != ExpertSelector::Kind::kNamed) {
    return Refuse(field, " is ", Quoted(expert), "; a member is an expert by its name");
  }
  for (const CollaborationMember& other : before) {
    if (other.expert != *selector) continue;
    return Refuse(field, " is ", Quoted(expert), ", which is a member already; give it one weight");
  }
  return selector;
}

// One weight for each member, as given or, where none is, equal ones.
StatusOr<std::vector<float>> WeightsOf(const std::vector<RequestedMember>& members) {
  std::vector<float> weights;
  double sum = 0;
  const bool weighted = members.front().weight.has_value();
  for (size_t i = 0; i < members.size(); ++i) {
    const std::string field = MemberField(i, "weight");
    if (members[i].weight.has_value() != weighted) {
      return Refuse(field, weighted ? " is not set" : " is set",
                    " unlike that of the members before; give every member a weight, or none");
    }
    const float weight = members[i].weight.value_or(1.0f / static_cast<float>(members.size()));
    if (!std::isfinite(weight) || weight <= 0) {
      return Refuse(field, " is ", weight,
                    "; it must be above 0 and finite: a member that shall say nothing is left out");
    }
    sum += static_cast<double>(weight);
    weights.push_back(weight);
  }
  if (!(std::abs(sum - 1) <= kWeightSumTolerance)) {
    return Refuse("collaboration.members", ": their weights sum to ", sum,
                  "; they must sum to 1 (within 1/64)");
  }
  return RoundPlanWeights(std::move(weights));
}

}  // namespace

StatusOr<CollaborationAsk> CompleteCollaboration(const RequestedCollaboration& requested) {
  CollaborationAsk ask;
  ASSIGN_OR_RETURN(ask.mode, ParseMode(requested.mode));
  if (requested.members.empty() == (requested.k == 0)) {
    return Refuse("collaboration",
                  requested.k == 0 ? " has neither members nor k" : " has both members and k",
                  "; give the members by name, or k for the router to choose");
  }
  if (requested.k > kMaxTopK) {
    return Refuse("collaboration.k", " is ", requested.k, "; at most ", kMaxTopK, " experts answer together");
  }
  ask.k = requested.k;
  if (requested.k > 0) return ask;
  if (requested.members.size() > kMaxTopK) {
    return Refuse("collaboration.members", " has ", requested.members.size(), " entries; at most ", kMaxTopK,
                  " experts answer together");
  }
  for (size_t i = 0; i < requested.members.size(); ++i) {
    ASSIGN_OR_RETURN(ExpertSelector expert, ParseMember(requested.members[i].expert, i, ask.members));
    ask.members.push_back({std::move(expert)});
  }
  ASSIGN_OR_RETURN(const std::vector<float> weights, WeightsOf(requested.members));
  for (size_t i = 0; i < weights.size(); ++i) ask.members[i].weight = weights[i];
  std::erase_if(ask.members, [](const CollaborationMember& member) { return member.weight == 0; });
  return ask;
}

}  // namespace coterie::gateway
