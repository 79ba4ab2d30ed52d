#include "gateway/watch/findings.h"

#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_join.h"
#include "common/utf8.h"
#include "gateway/routing/drift_watch.h"
#include "gateway/watch/shadow_traffic.h"

namespace coterie::gateway {

std::vector<std::string> FindingsOf(const GatewayCore& core, const CatalogueEntry& entry) {
  std::vector<std::string> findings;
  const auto add = [&](const std::string& finding) {
    if (!finding.empty()) findings.push_back(Printable(finding));
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

std::vector<std::string> BaseFindings(const GatewayCore& core) {
  std::vector<std::string> findings = core.text->warnings();
  const std::vector<EndToken>& ends = core.text->end_tokens();
  std::vector<int32_t> ids;
  ids.reserve(ends.size());
  for (const EndToken& end : ends) ids.push_back(end.id);
  const auto list = [&](const std::vector<int32_t>& these) {
    if (these.empty()) return std::string("no token (or does not say)");
    return absl::StrJoin(these, ", ", [&](std::string* out, int32_t id) {
      absl::StrAppend(out, id, " (", core.text->TokenText(id), ")");
    });
  };
  for (const WorkerReport& report : core.workers->Report()) {
    if (report.health != WorkerHealth::kReady || report.identity.end_token_ids == ids) continue;
    findings.push_back(absl::StrCat("worker ", report.address, " ends answers at ",
                                    list(report.identity.end_token_ids), ", this gateway's files say ",
                                    list(ids),
                                    ": start both from the same files and the same version of the program"));
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
  size_t n_more = 0;
  // Words of files may stand in them, and clients get UTF-8.
  const auto add = [&](const std::vector<std::string>& more) {
    for (const std::string& finding : more) {
      if (findings.size() < limit) {
        findings.push_back(Printable(finding));
      } else {
        ++n_more;
      }
    }
  };
  if (core.store != nullptr) {
    if (CatalogueHealth health = core.store->Health(); !health.words.empty()) add({std::move(health.words)});
  }
  add(BaseFindings(core));
  for (const std::string& name : names) {
    const std::shared_ptr<const CatalogueEntry> entry = router->catalogue().Find(name);
    if (entry == nullptr) continue;
    add(FindingsOf(core, *entry));
  }
  if (n_more > 0) {
    findings.push_back(absl::StrCat("and ", n_more, " more; `coterie experts list` has them all"));
  }
  return findings;
}

}  // namespace coterie::gateway
