#ifndef COTERIE_WORKER_ENGINE_FAIR_SHARES_H_
#define COTERIE_WORKER_ENGINE_FAIR_SHARES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "common/digest.h"
#include "worker/engine/sequence.h"

namespace coterie {

// Tokens served to one party, in units of cost: a token read costs one for each row that reads it, a token
// written one more.
struct Share {
  uint64_t served = 0;
  int n_active = 0;  // sequences of the party that wait or run
  // Of a tenant, while a step is planned: what its least served expert that competes was served.
  uint64_t least_expert = 0;
};

// Who was served how much: tenants, and within each tenant the experts it asks for (the first adapter of a
// sequence; the base is one of them). The least served goes first, so that neither a busy client nor a busy
// expert starves the others (virtual token counter: Sheng et al., "Fairness in Serving Large Language
// Models", OSDI 2024). A party that was idle starts again at the level of the least served active one:
// absence saves nothing up.
//
// Not thread-safe: the engine's thread owns it. Memory is taken only for parties not seen lately.
class FairShares {
 public:
  // Parties beyond these that are not active are forgotten, the least served first.
  static constexpr size_t kMaxTenants = 1024;
  static constexpr size_t kMaxExpertsPerTenant = 1024;

  FairShares();
  ~FairShares();

  // `s` competes from now on (it waits or runs), or does so no longer. Entering twice counts once.
  void Enter(Sequence* s);
  void Leave(Sequence* s);

  // Positions [s->n_computed, s->n_computed + n) of `s` go into a step. What had been computed before and
  // must be again costs nothing.
  void Charge(Sequence* s, int n, bool writes_token);

  static uint64_t TenantServed(const Sequence& s);  // of a sequence that entered
  static uint64_t ExpertServed(const Sequence& s);

  size_t n_tenants() const { return tenants_.size(); }

 private:
  // Parties are looked through for what can be forgotten each time they have doubled, not at every end of a
  // sequence.
  static constexpr size_t kFirstForgetAt = 32;
  struct Tenant {
    Share share;
    absl::flat_hash_map<Digest, std::unique_ptr<Share>> experts;
    int n_active_experts = 0;
    size_t forget_at = kFirstForgetAt;  // experts
  };
  absl::flat_hash_map<std::string, std::unique_ptr<Tenant>> tenants_;
  int n_active_tenants_ = 0;
  size_t forget_at_ = kFirstForgetAt;  // tenants
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_FAIR_SHARES_H_
