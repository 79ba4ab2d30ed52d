#ifndef COTERIE_GATEWAY_ROUTER_STATE_H_
#define COTERIE_GATEWAY_ROUTER_STATE_H_

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/route_plan.h"
#include "common/status.h"
#include "gateway/answer/request.h"
#include "model/store/catalogue.h"
#include "router/expert_index.h"
#include "router/routing_policy.h"

namespace coterie::gateway {

// What the router decided for one request, with the digests that pin it: an answer in flight never changes
// version.
struct Decision {
  struct Weighed {
    std::string name;
    Digest digest;
    float score = 0;
  };
  RoutePlan plan;
  std::vector<uint64_t> adapter_bytes;  // of plan.experts, one each
  std::vector<Weighed> candidates;
  double embed_seconds = 0;
  double search_seconds = 0;
};

// One generation of the catalogue made ready for routing. Immutable and thread-safe: a request takes the
// current one and keeps it, whatever is published meanwhile.
class RouterState {
 public:
  struct Options {
    RoutingOptions routing;  // its selection is the gateway's own policy
    size_t dim = 384;        // of the embedder; 0: there is none
    size_t max_candidates = 5;
  };

  // `prototypes[i]` ([n, dim]) belong to catalogue.entries[i]; a wrong size is InvalidArgument naming the
  // expert.
  static StatusOr<std::shared_ptr<const RouterState>> Create(const Options& options, Catalogue catalogue,
                                                             std::vector<std::vector<float>> prototypes);

  // Only "auto" is routed by the text.
  static bool NeedsEmbedding(const ExpertSelector& expert) {
    return expert.kind == ExpertSelector::Kind::kAuto;
  }

  // `embedding` as NeedsEmbedding says. An expert that has a canary answers with it where `ask.canary_key`
  // falls into its share, unless the request names a digest; scores are the live version's either way.
  // NotFound for an unknown expert or version, PermissionDenied for one that is not among the allowed,
  // InvalidArgument for an unknown policy.
  StatusOr<Decision> Decide(const ExpertSelector& expert, const RoutingAsk& ask,
                            std::span<const float> embedding) const;

  const Catalogue& catalogue() const { return catalogue_; }
  const ExpertIndex& index() const { return *index_; }

 private:
  RouterState() = default;
  StatusOr<Decision> DecideByName(const ExpertSelector& expert, const RoutingAsk& ask) const;
  StatusOr<Decision> DecideByText(const RoutingAsk& ask, std::span<const float> embedding) const;
  ExpertMask MaskOf(const RoutingAsk& ask) const;
  StatusOr<const RoutingPolicy*> PolicyNamed(const std::string& name) const;
  Status FillDecision(const RoutingAsk& ask, Decision* decision) const;

  Options options_;
  Catalogue catalogue_;
  std::shared_ptr<const ExpertIndex> index_;
  std::unique_ptr<const RoutingPolicy> policy_;  // the gateway's own
  std::vector<std::pair<std::string, std::unique_ptr<const RoutingPolicy>>> others_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTER_STATE_H_
