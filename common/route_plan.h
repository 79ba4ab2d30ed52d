#ifndef COTERIE_COMMON_ROUTE_PLAN_H_
#define COTERIE_COMMON_ROUTE_PLAN_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/gate.h"

namespace coterie {

// How the experts of one plan answer together. docs/several-experts.md says it for users.
enum class CollaborationMode : uint8_t {
  kNone,     // one expert, or the base
  kBlend,    // one row of the batch: the weighted sum of their LoRA products, in the space of weights
  kMixture,  // a row for each: tokens are drawn from the weighted sum of their distributions (c-BTM)
  kGated,    // one row: a sum of their LoRA products whose weights a gate gives for each token and module
};
// "blend", "mixture", "gated"; empty for kNone.
constexpr std::string_view NameOf(CollaborationMode mode) {
  switch (mode) {
    case CollaborationMode::kBlend:
      return "blend";
    case CollaborationMode::kMixture:
      return "mixture";
    case CollaborationMode::kGated:
      return "gated";
    case CollaborationMode::kNone:
      break;
  }
  return "";
}
// The other way; nothing for any other text.
constexpr std::optional<CollaborationMode> CollaborationModeOf(std::string_view name) {
  if (name == NameOf(CollaborationMode::kBlend)) return CollaborationMode::kBlend;
  if (name == NameOf(CollaborationMode::kMixture)) return CollaborationMode::kMixture;
  return std::nullopt;
}

// One expert chosen for a request.
struct PlannedExpert {
  std::string name;
  Digest adapter;       // never empty
  float weight = 1.0f;  // the plan's weights sum to 1; under a gate, which gives weights, they are equal
  // What the policy compared: a cosine in [-1, 1], or a probability in [0, 1] under a classifier; 0 where
  // nothing was compared (asked for by name).
  float score = 0.0f;
  bool canary = false;  // `adapter` is the version on trial, not the live one
};

// An expert that was weighed, chosen or not.
struct RouteCandidate {
  std::string name;
  float score = 0.0f;
};

// The router's decision for one request; travels to the client as the answer's first message.
struct RoutePlan {
  // Best first, those that the request named in its own order; empty exactly when `base` is set.
  std::vector<PlannedExpert> experts;
  // The expert that was chosen, where it is made of others: `experts` are its members. Its `adapter` is the
  // digest of that version; no worker loads it.
  std::optional<PlannedExpert> composite;
  CollaborationMode mode = CollaborationMode::kNone;  // another one exactly when there are several experts
  Gate gate;                                          // of kGated, but for its seed
  bool base = false;                                  // answer with the frozen base and no adapter
  // Best score minus the next one's. 1 when nothing competed.
  float margin = 1.0f;
  // "nearest", "rules", "classifier", "top_k", "mixture", "adaptive_k", "by_name", "base"
  std::string policy;
  std::string reason;                      // a sentence a person can read
  std::vector<RouteCandidate> candidates;  // best first, bounded by the query
  uint64_t catalogue_generation = 0;       // of the expert store, at the time of the decision

  // The experts whose names answer: the composite one, or all of `experts`.
  std::span<const PlannedExpert> named() const {
    return composite ? std::span(&*composite, 1) : std::span(experts);
  }
};

}  // namespace coterie

#endif  // COTERIE_COMMON_ROUTE_PLAN_H_
