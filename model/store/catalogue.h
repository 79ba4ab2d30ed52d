#ifndef COTERIE_MODEL_STORE_CATALOGUE_H_
#define COTERIE_MODEL_STORE_CATALOGUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/ids.h"
#include "common/status.h"
#include "model/store/catalogue_entries.h"
#include "model/store/catalogue_entry.h"

namespace coterie {

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
  uint64_t generation = 0;   // 0: nothing was ever published
  CatalogueEntries entries;  // by name
  std::vector<DamagedEntry> damaged;

  bool operator==(const Catalogue&) const = default;

  // Null when there is none of that name.
  std::shared_ptr<const CatalogueEntry> Find(std::string_view name) const { return entries.Find(name); }

  struct Resolved {
    std::shared_ptr<const CatalogueEntry> entry;
    const ExpertVersion* version;  // of *entry: live, its canary's or one of its history
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
