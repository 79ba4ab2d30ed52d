#include "gateway/routing/collaboration.h"

#include <algorithm>
#include <optional>

#include "common/member_weights.h"
#include "common/quoted.h"
#include "common/refused_field.h"
#include "router/routing_limits.h"

namespace coterie::gateway {
namespace {

template <typename... Words>
Status Refuse(std::string_view field, const Words&... words) {
  return OfField(absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), words...)), field);
}

StatusOr<CollaborationMode> ParseMode(const std::string& mode) {
  constexpr std::string_view kField = "collaboration.mode";
  if (mode == NameOf(CollaborationMode::kMixture)) return CollaborationMode::kMixture;
  if (mode == NameOf(CollaborationMode::kBlend)) return CollaborationMode::kBlend;
  if (mode == NameOf(CollaborationMode::kGated)) return CollaborationMode::kGated;
  if (mode.empty()) return Refuse(kField, " is not set; give mixture, blend or gated");
  for (const char* planned : {"layers", "plan", "defer"}) {
    if (mode != planned) continue;
    return OfField(
        absl::UnimplementedError(absl::StrCat("collaboration.mode is ", mode,
                                              ", which is not built yet; mixture, blend and gated are")),
        kField);
  }
  return Refuse(kField, " is ", Quoted(mode), ", which is none of mixture, blend, gated");
}

StatusOr<GateKind> ParseGate(const std::string& gate) {
  if (gate.empty()) return GateKind::kGateless;
  std::string names;
  for (const GateKind kind : kAllGates) {
    if (gate == NameOf(kind)) return kind;
    absl::StrAppend(&names, names.empty() ? "" : ", ", ToAbsl(NameOf(kind)));
  }
  return Refuse("collaboration.gate", " is ", Quoted(gate), ", which is none of ", names);
}

// Gate and top_k, which only a gated collaboration has; `n` members at most.
Status CompleteGate(const RequestedCollaboration& requested, size_t n, CollaborationAsk* ask) {
  if (ask->mode != CollaborationMode::kGated) {
    const char* given = !requested.gate.empty() ? "gate" : requested.top_k ? "top_k" : nullptr;
    if (given == nullptr) return absl::OkStatus();
    return Refuse(absl::StrCat("collaboration.", given), " is set; only the mode gated has a gate, not ",
                  ToAbsl(NameOf(ask->mode)));
  }
  ASSIGN_OR_RETURN(ask->gate, ParseGate(requested.gate));
  if (!requested.top_k) return absl::OkStatus();
  ask->top_k = *requested.top_k;
  if (ask->top_k < 1 || ask->top_k > n) {
    return Refuse("collaboration.top_k", " is ", ask->top_k, "; it must be 1 to ", n,
                  ", the number of members, of which a token uses so many");
  }
  if (ask->gate == GateKind::kGateless && ask->top_k != n) {
    return Refuse("collaboration.top_k", " is ", ask->top_k, "; the gate gateless uses all ", n,
                  " members: leave top_k out, or give another gate");
  }
  return absl::OkStatus();
}

Status RefuseWeights(const std::vector<RequestedMember>& members) {
  for (size_t i = 0; i < members.size(); ++i) {
    if (!members[i].weight) continue;
    const std::string field = absl::StrCat("collaboration.members[", i, "].weight");
    return Refuse(field, " is ", *members[i].weight, "; under a gate members have none, the gate gives them");
  }
  return absl::OkStatus();
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
  RETURN_IF_ERROR(CompleteGate(requested, requested.k > 0 ? requested.k : requested.members.size(), &ask));
  if (requested.k > 0) return ask;
  if (requested.members.size() > kMaxTopK) {
    return Refuse("collaboration.members", " has ", requested.members.size(), " entries; at most ", kMaxTopK,
                  " experts answer together");
  }
  for (size_t i = 0; i < requested.members.size(); ++i) {
    ASSIGN_OR_RETURN(ExpertSelector expert, ParseMember(requested.members[i].expert, i, ask.members));
    ask.members.push_back({std::move(expert)});
  }
  if (ask.mode == CollaborationMode::kGated) {
    RETURN_IF_ERROR(RefuseWeights(requested.members));
    for (CollaborationMember& member : ask.members) {
      member.weight = 1.0f / static_cast<float>(ask.members.size());
    }
    return ask;
  }
  std::vector<std::optional<float>> given;
  for (const RequestedMember& member : requested.members) given.push_back(member.weight);
  ASSIGN_OR_RETURN(const std::vector<float> weights,
                   CompleteWeights(
                       given, [](size_t i) { return MemberField(i, "weight"); }, "collaboration.members"));
  for (size_t i = 0; i < weights.size(); ++i) ask.members[i].weight = weights[i];
  std::erase_if(ask.members, [](const CollaborationMember& member) { return member.weight == 0; });
  return ask;
}

void ApplyGate(const CollaborationAsk& ask, RoutePlan* plan) {
  const size_t n = plan->experts.size();
  if (ask.mode != CollaborationMode::kGated || n < 2) return;
  plan->mode = CollaborationMode::kGated;
  plan->gate.kind = ask.gate;
  plan->gate.top_k = static_cast<int32_t>(ask.top_k == 0 ? n : std::min<size_t>(ask.top_k, n));
  if (ask.gate == GateKind::kGateless) plan->gate.top_k = static_cast<int32_t>(n);
  for (PlannedExpert& expert : plan->experts) expert.weight = 1.0f / static_cast<float>(n);
  absl::StrAppend(&plan->reason, "; gate ", ToAbsl(NameOf(ask.gate)), ", ", plan->gate.top_k, " of ", n,
                  " members for each token and module");
}

}  // namespace coterie::gateway
