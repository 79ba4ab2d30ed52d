#include "gateway/routing/router_state.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/member_weights.h"
#include "common/quoted.h"
#include "model/store/composite.h"
#include "router/canary.h"

namespace coterie::gateway {
namespace {

Status NotPermitted(const std::string& name) {
  return absl::PermissionDeniedError(
      absl::StrCat("expert ", Quoted(name), " is not among the experts this request may use"));
}

bool Allowed(const RoutingAsk& ask, const std::string& name) {
  if (ask.granted != nullptr && !ask.granted->Match(name)) return false;
  return ask.allowed_experts.empty() ||
         std::find(ask.allowed_experts.begin(), ask.allowed_experts.end(), name) != ask.allowed_experts.end();
}

// Gives the request to the canary of `entry` where its share says so: the adapter of `expert` is then the
// canary's, and *reason says it.
void TryCanary(const RoutingAsk& ask, const CatalogueEntry& entry, PlannedExpert* expert,
               std::string* reason) {
  if (!entry.canary.has_value() || ask.canary_key.empty()) return;
  const CatalogueCanary& canary = *entry.canary;
  if (!TakesCanary(ask.canary_key, entry.name, canary.share)) return;
  expert->adapter = canary.version.adapter;
  expert->canary = true;
  absl::StrAppend(reason, "; canary ", entry.name, "@", canary.version.adapter.Short(), " (version ",
                  canary.version.version, ", share ", canary.share, ")");
}

// Of a chosen expert that is made of others: its members take its place in the plan.
void ReplaceByMembers(const ExpertVersion& version, Decision* decision) {
  RoutePlan& plan = decision->plan;
  plan.composite = std::exchange(plan.experts, {}).front();
  plan.mode = version.mode;
  decision->adapter_bytes.clear();
  for (const ExpertMember& member : version.members) {
    plan.experts.push_back({.name = member.name, .adapter = member.adapter, .weight = member.weight});
    decision->adapter_bytes.push_back(member.adapter_bytes);
  }
  absl::StrAppend(&plan.reason, "; ", plan.composite->name, " is a ", ToAbsl(NameOf(version.mode)), " of ",
                  MembersInWords(version.members));
}

using Entries = std::vector<std::shared_ptr<const CatalogueEntry>>;

// A mixture of mixtures is none: where the router chose several experts, a composite one answers alone if it
// is the best of them, else the others answer without it.
void LeaveOutComposites(Entries* entries, RoutePlan* plan) {
  if (entries->size() < 2) return;
  if (const CatalogueEntry& best = *entries->front(); best.live.is_composite()) {
    absl::StrAppend(&plan->reason, "; the best of them is a ", ToAbsl(NameOf(best.live.mode)),
                    " itself and answers alone");
    entries->resize(1);
    plan->experts.resize(1);
  } else {
    std::vector<PlannedExpert> kept;
    Entries kept_entries;
    for (size_t i = 0; i < entries->size(); ++i) {
      if ((*entries)[i]->live.is_composite()) {
        absl::StrAppend(&plan->reason, "; without ", (*entries)[i]->name, ", a ",
                        ToAbsl(NameOf((*entries)[i]->live.mode)), " itself");
        continue;
      }
      kept.push_back(std::move(plan->experts[i]));
      kept_entries.push_back(std::move((*entries)[i]));
    }
    plan->experts = std::move(kept);
    *entries = std::move(kept_entries);
  }
  double sum = 0;
  for (const PlannedExpert& expert : plan->experts) sum += static_cast<double>(expert.weight);
  std::vector<float> weights;
  for (const PlannedExpert& expert : plan->experts) {
    weights.push_back(static_cast<float>(static_cast<double>(expert.weight) / sum));
  }
  weights = RoundWeights(weights);
  for (size_t i = 0; i < weights.size(); ++i) plan->experts[i].weight = weights[i];
  if (plan->experts.size() == 1) plan->mode = CollaborationMode::kNone;
}

// A number of experts is asked of the policy that ranks them for the mode.
std::string PolicyFor(const RoutingAsk& ask) {
  if (ask.collaboration.k == 0) return ask.policy;
  return ask.collaboration.mode == CollaborationMode::kMixture ? "mixture" : "top_k";
}

}  // namespace

ExpertIndex::Options RouterState::IndexOptions(const Options& options, uint64_t generation) {
  ExpertIndex::Options index;
  index.dim = std::max<size_t>(1, options.dim);
  index.generation = generation;
  return index;
}

StatusOr<std::shared_ptr<const RouterState>> RouterState::Create(const Options& options, Catalogue catalogue,
                                                                 std::vector<std::vector<float>> prototypes) {
  std::vector<IndexedExpert> experts;
  experts.reserve(catalogue.entries.size());
  for (const CatalogueEntry& entry : catalogue.entries) {
    std::vector<float>& own = prototypes[experts.size()];
    experts.push_back({entry.name, entry.live.adapter, entry.tags, entry.min_score, std::move(own)});
  }
  Parts parts;
  ASSIGN_OR_RETURN(parts.index,
                   ExpertIndex::Create(IndexOptions(options, catalogue.generation), std::move(experts)));
  ASSIGN_OR_RETURN(parts.policies, RoutingPolicies::Create(options.routing));
  parts.catalogue = std::make_shared<const Catalogue>(std::move(catalogue));
  return std::make_shared<const RouterState>(options.max_candidates, std::move(parts));
}

const ExpertProblem* RouterState::ProblemOf(std::string_view name) const {
  const auto it = std::lower_bound(
      problems().begin(), problems().end(), name,
      [](const ExpertProblem& problem, std::string_view wanted) { return problem.name < wanted; });
  return it != problems().end() && it->name == name ? &*it : nullptr;
}

StatusOr<Decision> RouterState::Decide(const ExpertSelector& expert, const RoutingAsk& ask,
                                       std::span<const float> embedding) const {
  switch (expert.kind) {
    case ExpertSelector::Kind::kBase: {
      Decision decision;
      decision.plan = PlanForBase(catalogue().generation);
      return decision;
    }
    case ExpertSelector::Kind::kNamed:
      return DecideByName(expert, ask);
    case ExpertSelector::Kind::kMembers:
      return DecideMembers(ask);
    case ExpertSelector::Kind::kAuto:
      break;
  }
  return DecideByText(ask, embedding);
}

StatusOr<Decision> RouterState::DecideByName(const ExpertSelector& expert, const RoutingAsk& ask) const {
  if (!Allowed(ask, expert.name)) return NotPermitted(expert.name);
  ASSIGN_OR_RETURN(const Catalogue::Resolved found, catalogue().Resolve(expert));
  Decision decision;
  decision.plan = PlanForExpert({found.entry->name, found.version->adapter, found.version->revision},
                                catalogue().generation);
  PlannedExpert& planned = decision.plan.experts[0];
  planned.canary = found.is_canary();
  if (expert.digest_prefix.empty()) TryCanary(ask, *found.entry, &planned, &decision.plan.reason);
  const ExpertVersion& version = planned.canary ? found.entry->canary->version : *found.version;
  decision.adapter_bytes.push_back(version.adapter_bytes);
  if (version.is_composite()) ReplaceByMembers(version, &decision);
  return decision;
}

StatusOr<Decision> RouterState::DecideMember(const CollaborationMember& member, const RoutingAsk& ask) const {
  ASSIGN_OR_RETURN(Decision alone, DecideByName(member.expert, ask));
  if (alone.plan.composite && alone.plan.composite->canary && member.expert.digest_prefix.empty()) {
    // The version on trial is made of others; the live one may not be.
    RoutingAsk live = ask;
    live.canary_key.clear();
    ASSIGN_OR_RETURN(alone, DecideByName(member.expert, live));
  }
  if (!alone.plan.composite) return alone;
  return absl::InvalidArgumentError(absl::StrCat(
      "collaboration.members: ", ToString(member.expert), " is a ", ToAbsl(NameOf(alone.plan.mode)),
      " itself; ask for it alone, or for the members that you want of it: ",
      absl::StrJoin(alone.plan.experts, ", ",
                    [](std::string* out, const PlannedExpert& expert) { out->append(expert.name); })));
}

StatusOr<Decision> RouterState::DecideMembers(const RoutingAsk& ask) const {
  std::vector<PlannedExpert> members;
  std::vector<uint64_t> adapter_bytes;
  std::string canaries;
  for (const CollaborationMember& member : ask.collaboration.members) {
    ASSIGN_OR_RETURN(const Decision alone, DecideMember(member, ask));
    PlannedExpert expert = alone.plan.experts[0];
    expert.weight = member.weight;
    const auto same = std::find_if(members.begin(), members.end(), [&](const PlannedExpert& other) {
      return other.adapter == expert.adapter;
    });
    if (same != members.end()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "collaboration.members: ", ToString(member.expert), " is the same version (",
          expert.adapter.Short(), ") as ", same->name, ", which is a member already; give it one weight"));
    }
    if (expert.canary) {
      absl::StrAppend(&canaries, "; ", expert.name, " answers as its canary ", expert.adapter.Short());
    }
    adapter_bytes.push_back(alone.adapter_bytes[0]);
    members.push_back(std::move(expert));
  }
  Decision decision;
  decision.plan = PlanForMembers(std::move(members), ask.collaboration.mode, catalogue().generation);
  decision.plan.reason += canaries;
  ApplyGate(ask.collaboration, &decision.plan);
  decision.adapter_bytes = std::move(adapter_bytes);
  return decision;
}

std::shared_ptr<const ExpertMask> RouterState::GrantedMask(
    const std::shared_ptr<const NamePatterns>& granted) const {
  constexpr size_t kMaxMasks = 1024;  // of 100,000 experts 12 MB; keys that share none pay the matching again
  {
    MutexLock lock(&masks_mutex_);
    if (const auto found = masks_.find(granted); found != masks_.end()) return found->second;
  }
  auto mask = std::make_shared<ExpertMask>(index().size());
  for (size_t i = 0; i < index().size(); ++i) {
    if (granted->Match(std::string(index().expert(i).name))) mask->Set(i);
  }
  MutexLock lock(&masks_mutex_);
  if (masks_.size() >= kMaxMasks) masks_.clear();
  masks_[granted] = mask;
  return mask;
}

ExpertMask RouterState::MaskOf(const RoutingAsk& ask) const {
  ExpertMask mask(index().size());
  if (!ask.allowed_experts.empty()) {
    mask = index().MaskOf(ask.allowed_experts);
  } else {
    for (size_t i = 0; i < index().size(); ++i) mask.Set(i);
  }
  if (ask.granted != nullptr) {
    const std::shared_ptr<const ExpertMask> granted = GrantedMask(ask.granted);
    for (size_t i = 0; i < index().size(); ++i) {
      if (!granted->Test(i)) mask.Clear(i);
    }
  }
  for (const std::string& name : ask.without) {
    if (const auto found = index().Find(name)) mask.Clear(*found);
  }
  return mask;
}

StatusOr<const RoutingPolicy*> RouterState::PolicyOf(const RoutingAsk& ask) const {
  return parts_.policies->Named(PolicyFor(ask));
}

RouteQuery RouterState::QueryOf(const RoutingAsk& ask, ExpertMask* mask) const {
  RouteQuery query;
  query.domains = ask.tags;
  query.max_candidates = max_candidates_;
  query.k = ask.collaboration.k;
  if (!ask.allowed_experts.empty() || !ask.without.empty() || ask.granted != nullptr) {
    *mask = MaskOf(ask);
    query.allowed = mask;
  }
  return query;
}

StatusOr<Decision> RouterState::DecisionOf(RoutePlan plan, const RoutingAsk& ask) const {
  Decision decision;
  decision.plan = std::move(plan);
  RETURN_IF_ERROR(FillDecision(ask, &decision));
  return decision;
}

StatusOr<Decision> RouterState::DecideByText(const RoutingAsk& ask, std::span<const float> embedding) const {
  ASSIGN_OR_RETURN(const RoutingPolicy* policy, PolicyOf(ask));
  ExpertMask mask;
  RouteQuery query = QueryOf(ask, &mask);
  query.embedding = embedding;
  ASSIGN_OR_RETURN(RoutePlan plan, policy->Route(index(), query));
  return DecisionOf(std::move(plan), ask);
}

Status RouterState::FillDecision(const RoutingAsk& ask, Decision* decision) const {
  RoutePlan& plan = decision->plan;
  Entries entries;
  for (const PlannedExpert& expert : plan.experts) {
    entries.push_back(catalogue().Find(expert.name));
    if (entries.back() == nullptr)
      return absl::InternalError(absl::StrCat("planned expert ", expert.name, " is unknown"));
  }
  LeaveOutComposites(&entries, &plan);
  ApplyGate(ask.collaboration, &plan);
  for (size_t i = 0; i < entries.size(); ++i) {
    const CatalogueEntry& entry = *entries[i];
    const bool fits = entries.size() == 1 || !entry.canary || !entry.canary->version.is_composite();
    if (fits) TryCanary(ask, entry, &plan.experts[i], &plan.reason);
    const ExpertVersion& version = plan.experts[i].canary ? entry.canary->version : entry.live;
    decision->adapter_bytes.push_back(version.adapter_bytes);
    if (version.is_composite()) ReplaceByMembers(version, decision);
  }
  for (const RouteCandidate& candidate : decision->plan.candidates) {
    const auto found = index().Find(candidate.name);
    const Digest digest = found ? index().expert(*found).adapter : Digest();
    decision->candidates.push_back({candidate.name, digest, candidate.score});
  }
  return absl::OkStatus();
}

}  // namespace coterie::gateway
