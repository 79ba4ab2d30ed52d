#ifndef COTERIE_MODEL_STORE_CATALOGUE_ENTRY_H_
#define COTERIE_MODEL_STORE_CATALOGUE_ENTRY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/route_plan.h"
#include "common/routing_reference.h"
#include "common/sequence.h"
#include "common/status.h"

namespace coterie {

// A member of an expert that is made of others, pinned when that was published.
struct ExpertMember {
  std::string name;            // its own, at that time
  Digest adapter;              // objects/<adapter>/
  uint64_t adapter_bytes = 0;  // of its weights file
  float weight = 0;            // whole 32nds; those of a version sum to 1

  bool operator==(const ExpertMember&) const = default;
};

// One published state of an expert.
struct ExpertVersion {
  // objects/<adapter>/; of a composite expert the digest of mode, members and weights, and no object.
  Digest adapter;
  Digest revision;             // cards/<revision>/
  std::string version;         // as its card says
  uint64_t adapter_bytes = 0;  // of the weights file, or of all members'
  int64_t published_unix = 0;  // seconds
  std::optional<Digest> base;  // the base it was made for, where the card says so
  // The embedder that made its prototypes, where they say so.
  std::optional<Digest> embedder;
  // Only in a history: the name was rolled back from it, and the next roll-back passes it over.
  bool withdrawn = false;
  // A composite expert: how its members answer together, and who they are, 2 to kMaxExpertMembers. kNone and
  // none: an adapter.
  CollaborationMode mode = CollaborationMode::kNone;
  std::vector<ExpertMember> members;

  bool is_composite() const { return !members.empty(); }
  bool operator==(const ExpertVersion&) const = default;
};

// As many as a worker combines in one sequence.
inline constexpr size_t kMaxExpertMembers = kMaxAdaptersPerSequence;

// A second version of a name, on trial beside the live one until it is promoted or withdrawn. Routing knows
// only the live version's card and prototypes.
struct CatalogueCanary {
  ExpertVersion version;
  double share = 0;  // of the name's requests, in (0, 1]

  bool operator==(const CatalogueCanary&) const = default;
};

// OK for a share in (0, 1]; InvalidArgument naming the value.
Status ValidateCanaryShare(double share);

// One name in the catalogue. Everything but canary and history is of the live version.
struct CatalogueEntry {
  std::string name;
  ExpertVersion live;
  std::optional<CatalogueCanary> canary;  // its adapter is another one than live's
  std::string description;
  std::vector<std::string> tags;  // claims in the rules matrix
  std::string licence;
  std::optional<float> min_score;  // the router's abstain threshold
  std::optional<RoutingReference> routing;
  uint32_t n_prototypes = 0;
  // Versions that were live, newest first, without the one that is, bounded.
  std::vector<ExpertVersion> history;

  bool operator==(const CatalogueEntry&) const = default;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_CATALOGUE_ENTRY_H_
