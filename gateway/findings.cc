#include "gateway/findings.h"

#include <set>
#include <utility>

#include "gateway/drift_watch.h"
#include "gateway/shadow/shadow_traffic.h"

namespace coterie::gateway {

std::vector<std::string> FindingsOf(const GatewayCore& core, const CatalogueEntry& entry) {
  std::vector<std::string> findings;
  const auto add = [&](std::string finding) {
    if (!finding.empty()) findings.push_back(std::move(finding));
  };
  if (const auto router = core.routers->Current();
      const ExpertProblem* problem = router->ProblemOf(entry.name)) {
    add(absl::StrCat("expert ", entry.name,
                     " answers by its name only and is not routed to: ", problem->why));
  }
  if (core.shadow != nullptr) {
    add(RegretFinding(entry.name, core.shadow->Of(entry)));
  }
  if (core.drift != nullptr && entry.routing.has_value()) {
    add(DriftFinding(entry.name, core.drift->Of(entry), *entry.routing));
  }
  return findings;
}

std::vector<std::string> AllFindings(const GatewayCore& core, size_t limit) {
  const auto router = core.routers->Current();
  // Only those of whom anything is known: the catalogue may hold a hundred thousand.
  std::set<std::string> names;
  for (const ExpertProblem& problem : router->problems()) names.insert(problem.name);
  if (core.shadow != nullptr) {
    for (const ShadowTraffic::Seen& seen : core.shadow->All(router->catalogue()))
      names.insert(seen.entry->name);
  }
  if (core.drift != nullptr) {
    for (const DriftWatch::Seen& seen : core.drift->All(router->catalogue())) names.insert(seen.entry->name);
  }
  std::vector<std::string> findings;
  if (core.store != nullptr) {
    if (CatalogueHealth health = core.store->Health(); !health.words.empty()) {
      findings.push_back(std::move(health.words));
    }
  }
  size_t n_more = 0;
  for (const std::string& name : names) {
    const CatalogueEntry* entry = router->catalogue().Find(name);
    if (entry == nullptr) continue;
    for (std::string& finding : FindingsOf(core, *entry)) {
      if (findings.size() < limit) {
        findings.push_back(std::move(finding));
      } else {
        ++n_more;
      }
    }
  }
  if (n_more > 0) {
    findings.push_back(absl::StrCat("and ", n_more, " more; `coterie experts list` has them all"));
  }
  return findings;
}

}  // namespace coterie::gateway
