#ifndef COTERIE_MODEL_STORE_PACKED_ENTRIES_H_
#define COTERIE_MODEL_STORE_PACKED_ENTRIES_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/store/catalogue_entry.h"

namespace coterie::store_internal {

// A few dozen catalogue entries side by side in as few bytes as they say, each text (and each digest of a
// base or an embedder) that several share once. A CatalogueEntry takes 576 bytes and what its strings
// allocate, a packed one about 100 and its texts. Only ever in memory: the layout may change. Immutable;
// thread-safe.
class PackedEntries {
 public:
  explicit PackedEntries(std::span<const CatalogueEntry> entries);

  size_t size() const { return begins_.size(); }
  std::string_view name(size_t i) const;
  CatalogueEntry Unpack(size_t i) const;

 private:
  std::string bytes_;              // one entry after the other, each with its name first
  std::vector<uint32_t> begins_;   // [n_entries]
  std::string texts_;              // one after the other
  std::vector<uint32_t> offsets_;  // [n_texts + 1], in texts_
};

}  // namespace coterie::store_internal

#endif  // COTERIE_MODEL_STORE_PACKED_ENTRIES_H_
