#ifndef COTERIE_MODEL_STORE_CATALOGUE_H_
#define COTERIE_MODEL_STORE_CATALOGUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/digest.h"
#include "common/ids.h"
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

// An expert of a catalogue file that cannot be read: named and passed over. It is kept as it stands when the
// next generation is written, so that nothing of it is lost before somebody has looked.
struct DamagedEntry {
  std::string name;  // as far as it can be read; perhaps empty
  std::string text;  // its JSON, or what is left of it: one line
  std::string why;   // names the file, the expert and the field

  bool operator==(const DamagedEntry&) const = default;
};

// One generation of the expert store: which experts exist. A plain value, immutable once shared.
struct Catalogue {
  uint64_t generation = 0;              // 0: nothing was ever published
  std::vector<CatalogueEntry> entries;  // by name
  std::vector<DamagedEntry> damaged;

  bool operator==(const Catalogue&) const = default;

  const CatalogueEntry* Find(std::string_view name) const;
  // The entry with this name, or the place where it belongs.
  std::vector<CatalogueEntry>::iterator LowerBound(std::string_view name);

  struct Resolved {
    const CatalogueEntry* entry;   // of this catalogue
    const ExpertVersion* version;  // entry->live, entry->canary's or one of entry->history
    bool is_canary() const { return entry->canary.has_value() && version == &entry->canary->version; }
  };
  // For a selector of kind kNamed. NotFound when the name, or a version of it with that digest, is not there;
  // InvalidArgument when the prefix of the digest fits several.
  StatusOr<Resolved> Resolve(const ExpertSelector& selector) const;
};

struct CatalogueLimits {
  size_t max_experts = 100'000;
  size_t max_history = 16;
  size_t max_bytes = size_t{512} << 20;  // of the file
  size_t max_damaged = 1000;             // entries that are passed over; with more the whole file is refused
};

// catalogue.json: {"format": 1, "generation": n, "experts": [...]}. Unknown fields are passed over, so that
// an older program reads a newer one's file; another format is FailedPrecondition. An expert that is wrong
// lands in `damaged`, naming `name`, itself and the field; of two with one name the second. Everything else
// that is wrong or beyond a limit, and a file none of whose experts can be read, is InvalidArgument.
//
// `before`: an earlier generation, or null. Its entries are taken over where the file has the very text that
// SerializeCatalogue makes of them: following a store costs a comparison for each expert that did not change.
StatusOr<Catalogue> ParseCatalogue(std::string_view json, std::string_view name,
                                   const CatalogueLimits& limits = {}, const Catalogue* before = nullptr);
// One expert a line, in the order of names.
std::string SerializeCatalogue(const Catalogue& catalogue);
// OK for an entry that every program of this version can read back (texts within their limits, and so on);
// what ParseCatalogue says of it otherwise.
Status CheckReadable(const CatalogueEntry& entry, const CatalogueLimits& limits = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_CATALOGUE_H_
