#ifndef COTERIE_MODEL_STORE_CATALOGUE_ENTRY_H_
#define COTERIE_MODEL_STORE_CATALOGUE_ENTRY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/digest.h"
#include "common/routing_reference.h"
#include "common/status.h"

namespace coterie {

// One published state of an expert.
struct ExpertVersion {
  Digest adapter;              // objects/<adapter>/
  Digest revision;             // cards/<revision>/
  std::string version;         // as its card says
  uint64_t adapter_bytes = 0;  // of the weights file
  int64_t published_unix = 0;  // seconds
  std::optional<Digest> base;  // the base it was made for, where the card says so
  // The embedder that made its prototypes, where they say so.
  std::optional<Digest> embedder;
  // Only in a history: the name was rolled back from it, and the next roll-back passes it over.
  bool withdrawn = false;

  bool operator==(const ExpertVersion&) const = default;
};

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
