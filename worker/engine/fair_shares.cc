#include "worker/engine/fair_shares.h"

#include <algorithm>
#include <limits>

#include "common/check.h"

namespace coterie {
namespace {

constexpr uint64_t kNobody = std::numeric_limits<uint64_t>::max();

// What the least served active party has had; kNobody when none is active.
template <class Map, class ShareOf>
uint64_t LeastActive(const Map& parties, ShareOf share_of) {
  uint64_t least = kNobody;
  for (const auto& [key, party] : parties) {
    const Share& share = share_of(*party);
    if (share.n_active > 0) least = std::min(least, share.served);
  }
  return least;
}

// Forgets inactive parties: those whose level says nothing any more, being raised on their return anyway, and
// while there are too many, the least served.
template <class Map, class ShareOf>
void Forget(Map* parties, ShareOf share_of, size_t most) {
  const uint64_t least = LeastActive(*parties, share_of);
  absl::erase_if(*parties, [&](const auto& entry) {
    const Share& share = share_of(*entry.second);
    return share.n_active == 0 && share.served <= least;
  });
  while (parties->size() > most) {
    auto victim = parties->end();
    for (auto it = parties->begin(); it != parties->end(); ++it) {
      const Share& share = share_of(*it->second);
      if (share.n_active > 0) continue;
      if (victim == parties->end() || share.served < share_of(*victim->second).served) victim = it;
    }
    if (victim == parties->end()) return;
    parties->erase(victim);
  }
}

// The first active sequence of a party raises it to the level of the others.
template <class Map, class ShareOf>
void Activate(const Map& parties, ShareOf share_of, Share* share) {
  if (share->n_active == 0) {
    const uint64_t least = LeastActive(parties, share_of);
    if (least != kNobody) share->served = std::max(share->served, least);
  }
  ++share->n_active;
}

Digest ExpertOf(const Sequence& s) {
  return s.request.adapters.empty() ? Digest() : s.request.adapters.front().digest;
}

}  // namespace

FairShares::FairShares() = default;
FairShares::~FairShares() = default;

void FairShares::Enter(Sequence* s) {
  if (s->expert_share != nullptr) return;
  std::unique_ptr<Tenant>& tenant = tenants_[s->request.tenant];
  if (tenant == nullptr) tenant = std::make_unique<Tenant>();
  std::unique_ptr<Share>& expert = tenant->experts[ExpertOf(*s)];
  if (expert == nullptr) expert = std::make_unique<Share>();
  Activate(
      tenants_, [](const Tenant& t) -> const Share& { return t.share; }, &tenant->share);
  Activate(
      tenant->experts, [](const Share& e) -> const Share& { return e; }, expert.get());
  s->tenant_share = &tenant->share;
  s->expert_share = expert.get();
}

void FairShares::Leave(Sequence* s) {
  if (s->expert_share == nullptr) return;
  --s->tenant_share->n_active;
  --s->expert_share->n_active;
  const bool idle = s->expert_share->n_active == 0;
  s->tenant_share = nullptr;
  s->expert_share = nullptr;
  if (!idle) return;
  auto tenant = tenants_.find(s->request.tenant);
  COTERIE_CHECK(tenant != tenants_.end())
      << "tenant '" << s->request.tenant << "' was forgotten while active";
  Forget(
      &tenant->second->experts, [](const Share& e) -> const Share& { return e; }, kMaxExpertsPerTenant);
  if (tenant->second->share.n_active == 0) {
    Forget(
        &tenants_, [](const Tenant& t) -> const Share& { return t.share; }, kMaxTenants);
  }
}

void FairShares::Charge(Sequence* s, int n, bool writes_token) {
  s->n_charged = std::max(s->n_charged, s->n_computed);
  const int fresh = s->n_computed + n - s->n_charged;
  if (fresh <= 0) return;
  s->n_charged += fresh;
  const uint64_t cost = static_cast<uint64_t>(fresh) + (writes_token ? 1 : 0);
  s->tenant_share->served += cost;
  s->expert_share->served += cost;
}

uint64_t FairShares::TenantServed(const Sequence& s) { return s.tenant_share->served; }
uint64_t FairShares::ExpertServed(const Sequence& s) { return s.expert_share->served; }

}  // namespace coterie
