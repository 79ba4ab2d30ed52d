#include "gateway/routing/router_state.h"

#include <algorithm>
#include <utility>

#include "common/quoted.h"
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
  decision.adapter_bytes.push_back(planned.canary ? found.entry->canary->version.adapter_bytes
                                                  : found.version->adapter_bytes);
  return decision;
}

StatusOr<Decision> RouterState::DecideMembers(const RoutingAsk& ask) const {
  std::vector<PlannedExpert> members;
  std::vector<uint64_t> adapter_bytes;
  std::string canaries;
  for (const CollaborationMember& member : ask.collaboration.members) {
    ASSIGN_OR_RETURN(const Decision alone, DecideByName(member.expert, ask));
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
  ApplyGate(ask.collaboration, &decision.plan);
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
  for (PlannedExpert& expert : decision->plan.experts) {
    const std::shared_ptr<const CatalogueEntry> entry = catalogue().Find(expert.name);
    if (entry == nullptr)
      return absl::InternalError(absl::StrCat("planned expert ", expert.name, " is unknown"));
    TryCanary(ask, *entry, &expert, &decision->plan.reason);
    decision->adapter_bytes.push_back(expert.canary ? entry->canary->version.adapter_bytes
                                                    : entry->live.adapter_bytes);
  }
  for (const RouteCandidate& candidate : decision->plan.candidates) {
    const auto found = index().Find(candidate.name);
    const Digest digest = found ? index().expert(*found).adapter : Digest();
    decision->candidates.push_back({candidate.name, digest, candidate.score});
  }
  return absl::OkStatus();
}

}  // namespace coterie::gateway
