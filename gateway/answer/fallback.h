#ifndef COTERIE_GATEWAY_ANSWER_FALLBACK_H_
#define COTERIE_GATEWAY_ANSWER_FALLBACK_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/answer/preparation.h"
#include "gateway/upstream/sequence.h"

namespace coterie::gateway {

// Where a question goes when the adapter of its expert can be loaded nowhere: from a canary to the live
// version of the same expert, from an expert that the router chose to the next best one, and in the end to
// the base. An expert that was asked for by name has no other. Not thread-safe.
class Fallback {
 public:
  // Null for a request that has nowhere else to go. The parts of `prepared` that it needs are moved out,
  // `sequence` (filled in but for its adapters) is copied.
  static std::unique_ptr<Fallback> For(const ExpertSelector& asked, const RoutingAsk& routing,
                                       Prepared* prepared, const Decision& decision,
                                       const SequenceRequest& sequence);

  // Decides anew after `failed` could not be loaded, because of `why`. The reason of the decision says so;
  // names() are the experts that were left out because of this error. Null-opt when nothing is left to try.
  std::optional<Decision> Next(const Decision& failed, const Status& why);
  const std::vector<std::string>& names() const { return names_; }
  const SequenceRequest& sequence() const { return sequence_; }

 private:
  Fallback() = default;

  ExpertSelector asked_;
  RoutingAsk routing_;  // with those that failed so far left out
  std::shared_ptr<const RouterState> router_;
  std::vector<float> embedding_;
  SequenceRequest sequence_;
  std::vector<std::string> names_;
  std::string words_;  // what failed so far
  int n_tries_ = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_FALLBACK_H_
