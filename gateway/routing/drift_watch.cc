#include "gateway/routing/drift_watch.h"

#include <algorithm>

namespace coterie::gateway {

Status DriftWatch::Validate(const DriftOptions& options) {
  if (options.margin >= 0 && options.margin <= 2) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("drift margin ", options.margin, " is not in [0, 2]"));
}

void DriftWatch::Observe(const Decision& decision, const Catalogue& catalogue) {
  // A classifier's score is a probability, and says nothing of the distance.
  // A question that was kept brings the score of the one before it once more.
  if (decision.kept || decision.candidates.empty() || decision.plan.experts.empty() ||
      decision.plan.policy == "classifier") {
    return;
  }
  // Routed by other prototypes, perhaps.
  if (decision.plan.catalogue_generation != catalogue.generation) return;
  const PlannedExpert& expert = decision.plan.named()[0];
  const std::shared_ptr<const CatalogueEntry> entry = catalogue.Find(expert.name);
  if (entry == nullptr || !entry->routing.has_value()) return;

  MutexLock lock(&mutex_);
  auto it = pictures_.find(expert.name);
  if (it == pictures_.end()) {
    if (pictures_.size() >= kMaxExperts && full_at_ != catalogue.generation) {
      full_at_ = catalogue.generation;
      std::erase_if(pictures_, [&](const auto& one) { return catalogue.Find(one.first) == nullptr; });
    }
    if (pictures_.size() >= kMaxExperts) return;
    it = pictures_.emplace(expert.name, Picture{entry->live.revision, DecayingMoments(options_.half_life)})
             .first;
  }
  if (it->second.revision != entry->live.revision) {
    it->second = Picture{entry->live.revision, DecayingMoments(options_.half_life)};
  }
  it->second.scores.Add(expert.score);
}

Drift DriftWatch::Of(const CatalogueEntry& entry) const {
  if (!entry.routing.has_value()) return Drift();
  MutexLock lock(&mutex_);
  const auto it = pictures_.find(entry.name);
  if (it == pictures_.end() || it->second.revision != entry.live.revision) return Drift();
  return CompareWithReference(it->second.scores, *entry.routing, options_);
}

std::vector<DriftWatch::Seen> DriftWatch::All(const Catalogue& catalogue) const {
  std::vector<std::string> names;
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, picture] : pictures_) names.push_back(name);
  }
  std::vector<Seen> all;
  for (const std::string& name : names) {
    const std::shared_ptr<const CatalogueEntry> entry = catalogue.Find(name);
    if (entry == nullptr) continue;
    const Drift drift = Of(*entry);
    if (drift.n > 0) all.push_back({entry, drift});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Seen& a, const Seen& b) { return a.drift.n > b.drift.n; });
  return all;
}

}  // namespace coterie::gateway
