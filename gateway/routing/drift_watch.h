#ifndef COTERIE_GATEWAY_ROUTING_DRIFT_WATCH_H_
#define COTERIE_GATEWAY_ROUTING_DRIFT_WATCH_H_

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/mutex.h"
#include "gateway/routing/router_state.h"
#include "router/drift.h"

namespace coterie::gateway {

// A running picture of the questions that each expert gets: how near they come to its prototypes. Kept for
// experts whose card says what to compare it with, from this gateway's start or the card's last change on. Of
// a question only its score enters. Thread-safe.
class DriftWatch {
 public:
  static constexpr size_t kMaxExperts = 10'000;

  // InvalidArgument naming the option.
  static Status Validate(const DriftOptions& options);
  explicit DriftWatch(const DriftOptions& options) : options_(options) {}

  // A question was routed. `catalogue` is the present one; a decision over another generation does not count.
  void Observe(const Decision& decision, const Catalogue& catalogue);

  // No questions yet, or no reference: an empty one.
  Drift Of(const CatalogueEntry& entry) const;
  // Of all experts of `catalogue` that were seen, those with the most questions first.
  struct Seen {
    std::shared_ptr<const CatalogueEntry> entry;
    Drift drift;
  };
  std::vector<Seen> All(const Catalogue& catalogue) const;

 private:
  struct Picture {
    Digest revision;  // of the prototypes that the scores are of
    DecayingMoments scores;
  };

  const DriftOptions options_;
  mutable Mutex mutex_;
  std::map<std::string, Picture, std::less<>> pictures_ ABSL_GUARDED_BY(mutex_);
  // The generation whose absent experts were dropped last: looking again would find none, question after
  // question.
  uint64_t full_at_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_DRIFT_WATCH_H_
