#ifndef COTERIE_MODEL_STORE_EXPERT_CARD_H_
#define COTERIE_MODEL_STORE_EXPERT_CARD_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/digest.h"
#include "common/ids.h"
#include "common/route_plan.h"
#include "common/routing_reference.h"
#include "common/status.h"

namespace coterie {

// Bounds on a card; what is longer is refused by name.
struct CardLimits {
  size_t max_bytes = 64 << 10;
  size_t max_description_bytes = 2048;
  size_t max_tags = 64;
  size_t max_facts = 512;
};

// One of the experts that a mixture or blend is made of.
struct CardMember {
  ExpertSelector expert;  // kNamed
  float weight = 0;       // whole 32nds, above 0; all sum to 1
};

// What an expert says about itself: expert.yaml in its folder (docs/expert-format.md).
//
//   name: postgres            required; [a-z0-9][a-z0-9._-]{0,63}
//   version: 1.2.0            required; [A-Za-z0-9][A-Za-z0-9.+_-]{0,31}
//   description: one line     required
//   tags: [sql, database]     words as names are: a request that declares one is sent here by rule;
//                             `domains` is another name for them, and both may be there
//   thresholds: {min_score: 0.3}  below it the router abstains; a cosine
//   routing: {mean_score: 0.61, std_score: 0.08, n: 412}  how the texts it was made for score against its
//                             prototypes; all three or none
//   base: SmolLM2-135M-Instruct   the base it was trained on, for people
//   base_digest: <64 hex>     that base's digest; checked when it is there
//   embedder: all-MiniLM-L6-v2    which made the prototypes
//   licence: PostgreSQL       of the data it was made from
//   kind: mixture             or blend: made of other experts, and without an adapter of its own;
//                             adapter, or nothing: an adapter
//   members:                  of a mixture or blend, 2 to 16: the live version of each when the card is
//     - {expert: postgres, weight: 0.6}   published, or the one that name@digest names; the weights, all or
//     - {expert: python, weight: 0.4}     none, sum to 1 within 1/64
//   training_data, training, evaluation: for people; any maps, lists and texts
struct ExpertCard {
  std::string name;
  std::string version;
  std::string description;
  std::vector<std::string> tags;
  std::optional<float> min_score;
  std::optional<RoutingReference> routing;
  std::string base;
  std::optional<Digest> base_digest;
  std::string embedder;
  std::string licence;
  CollaborationMode mode = CollaborationMode::kNone;
  std::vector<CardMember> members;  // none where `mode` is kNone
  // The fields for people, flattened: "evaluation.before.total" -> "3.3724".
  std::vector<std::pair<std::string, std::string>> facts;
};

// InvalidArgument naming `name`, the line, the field, its value and what is expected; unknown fields are
// refused.
StatusOr<ExpertCard> ParseExpertCard(std::string_view yaml, std::string_view name,
                                     const CardLimits& limits = {});
// The same with all that is wrong: appended to *problems, of which ParseExpertCard gives the first. What is
// returned holds the fields that are right.
ExpertCard ReadExpertCard(std::string_view yaml, std::string_view name, const CardLimits& limits,
                          std::vector<Status>* problems);

// Whether a card says that its expert is made of others, whatever else may be wrong with it.
bool SaysComposite(std::string_view yaml, const CardLimits& limits = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_EXPERT_CARD_H_
