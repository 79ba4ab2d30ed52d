#ifndef COTERIE_GATEWAY_ROUTING_ROUTER_STATE_H_
#define COTERIE_GATEWAY_ROUTING_ROUTER_STATE_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "common/ids.h"
#include "common/mutex.h"
#include "common/route_plan.h"
#include "common/status.h"
#include "gateway/routing/routing_ask.h"
#include "gateway/routing/routing_policies.h"
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
  // Routed by an earlier question of the conversation (router/conversation.h).
  bool kept = false;
};

// An expert of the catalogue that no question is routed to, though it answers by its name.
struct ExpertProblem {
  std::string name;
  std::string why;  // in words, naming the file, the value and the limit
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
  // The parts of a generation: `index` holds the experts of `catalogue`, without prototypes those of
  // `problems`, which stand in the order of names.
  struct Parts {
    std::shared_ptr<const Catalogue> catalogue;
    std::shared_ptr<const ExpertIndex> index;
    std::shared_ptr<const RoutingPolicies> policies;
    std::vector<ExpertProblem> problems;
  };
  RouterState(size_t max_candidates, Parts parts)
      : max_candidates_(max_candidates), parts_(std::move(parts)) {}
  // Of an index for `options`, whatever its experts.
  static ExpertIndex::Options IndexOptions(const Options& options, uint64_t generation);

  // Only "auto" is routed by the text.
  static bool NeedsEmbedding(const ExpertSelector& expert) {
    return expert.kind == ExpertSelector::Kind::kAuto;
  }

  // `embedding` is empty unless NeedsEmbedding(expert). An expert that has a canary answers with it where
  // `ask.canary_key` falls into its share, unless the request names a digest; scores are the live version's
  // either way. A chosen version that is made of others is answered by its members, whose names the request
  // need not be allowed to use. Under kMembers the experts are those of `ask.collaboration`. NotFound for an
  // unknown expert or version, PermissionDenied for one that is not among the allowed, InvalidArgument for an
  // unknown policy.
  StatusOr<Decision> Decide(const ExpertSelector& expert, const RoutingAsk& ask,
                            std::span<const float> embedding) const;

  // The parts of Decide for "auto", for whoever routes by more than one text. *mask must outlive the query.
  StatusOr<const RoutingPolicy*> PolicyOf(const RoutingAsk& ask) const;
  RouteQuery QueryOf(const RoutingAsk& ask, ExpertMask* mask) const;
  StatusOr<Decision> DecisionOf(RoutePlan plan, const RoutingAsk& ask) const;

  const Catalogue& catalogue() const { return *parts_.catalogue; }
  const ExpertIndex& index() const { return *parts_.index; }
  const std::vector<ExpertProblem>& problems() const { return parts_.problems; }
  // Of the expert of that name, or null.
  const ExpertProblem* ProblemOf(std::string_view name) const;
  const Parts& parts() const { return parts_; }

 private:
  StatusOr<Decision> DecideByName(const ExpertSelector& expert, const RoutingAsk& ask) const;
  StatusOr<Decision> DecideMember(const CollaborationMember& member, const RoutingAsk& ask) const;
  StatusOr<Decision> DecideMembers(const RoutingAsk& ask) const;
  StatusOr<Decision> DecideByText(const RoutingAsk& ask, std::span<const float> embedding) const;
  ExpertMask MaskOf(const RoutingAsk& ask) const;
  // Which experts match: worked out once for a key and a generation.
  std::shared_ptr<const ExpertMask> GrantedMask(const std::shared_ptr<const NamePatterns>& granted) const;
  Status FillDecision(const RoutingAsk& ask, Decision* decision) const;

  const size_t max_candidates_;
  const Parts parts_;
  mutable Mutex masks_mutex_;
  mutable absl::flat_hash_map<std::shared_ptr<const NamePatterns>, std::shared_ptr<const ExpertMask>> masks_
      ABSL_GUARDED_BY(masks_mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ROUTING_ROUTER_STATE_H_
