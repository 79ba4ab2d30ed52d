#include "worker/engine/fair_shares.h"

#include <algorithm>
#include <limits>
#include <vector>

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

// Drops idle parties. First those served no more than the least served active one: on return they would be
// raised to that level anyway, so nothing is lost. If more than `most` are left, the least served idle ones.
template <class Map, class ShareOf>
void Forget(Map* parties, ShareOf share_of, size_t most) {
  const uint64_t least = LeastActive(*parties, share_of);
  absl::erase_if(*parties, [&](const auto& entry) {
    const Share& share = share_of(*entry.second);
    return share.n_active == 0 && share.served <= least;
  });
  if (parties->size() <= most) return;
  // Down to half, so that this, too, is done once in many times.
  std::vector<uint64_t> idle;
  for (const auto& [key, party] : *parties) {
    if (share_of(*party).n_active == 0) idle.push_back(share_of(*party).served);
  }
  const size_t n_over = std::min(idle.size(), parties->size() - most / 2);
  if (n_over == 0) return;
  std::nth_element(idle.begin(), idle.begin() + static_cast<ptrdiff_t>(n_over - 1), idle.end());
  const uint64_t level = idle[n_over - 1];
  absl::erase_if(*parties, [&](const auto& entry) {
    const Share& share = share_of(*entry.second);
    return share.n_active == 0 && share.served <= level;
  });
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
  n_active_tenants_ += tenant->share.n_active == 0 ? 1 : 0;
  tenant->n_active_experts += expert->n_active == 0 ? 1 : 0;
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
  auto found = tenants_.find(s->request.tenant);
  COTERIE_CHECK(found != tenants_.end()) << "tenant '" << s->request.tenant << "' was forgotten while active";
  Tenant& tenant = *found->second;
  if (--tenant.n_active_experts == 0) {
    tenant.experts.clear();  // nobody is left to be compared with
  } else if (tenant.experts.size() >= tenant.forget_at) {
    Forget(
        &tenant.experts, [](const Share& e) -> const Share& { return e; }, kMaxExpertsPerTenant);
    tenant.forget_at = std::clamp(2 * tenant.experts.size(), kFirstForgetAt, kMaxExpertsPerTenant);
  }
  if (tenant.share.n_active > 0) return;
  if (--n_active_tenants_ == 0) {
    tenants_.clear();
  } else if (tenants_.size() >= forget_at_) {
    Forget(
        &tenants_, [](const Tenant& t) -> const Share& { return t.share; }, kMaxTenants);
    forget_at_ = std::clamp(2 * tenants_.size(), kFirstForgetAt, kMaxTenants);
  }
}

void FairShares::Charge(Sequence* s, int n, bool writes_token) {
  s->n_charged = std::max(s->n_charged, s->n_launched);
  const int fresh = s->n_launched + n - s->n_charged;
  if (fresh <= 0) return;
  s->n_charged += fresh;
  const uint64_t cost =
      static_cast<uint64_t>(fresh) * static_cast<uint64_t>(s->n_rows()) + (writes_token ? 1 : 0);
  s->tenant_share->served += cost;
  s->expert_share->served += cost;
}

uint64_t FairShares::TenantServed(const Sequence& s) { return s.tenant_share->served; }
uint64_t FairShares::ExpertServed(const Sequence& s) { return s.expert_share->served; }

}  // namespace coterie
