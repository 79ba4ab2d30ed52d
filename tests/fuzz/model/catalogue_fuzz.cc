// Any bytes as catalogue.json: what is accepted survives being written and read again.
#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "model/store/catalogue.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto catalogue = coterie::ParseCatalogue({reinterpret_cast<const char*>(data), size},
                                                 "catalogue.json", {.max_experts = 1000});
  if (!catalogue.ok()) return 0;
  const auto again = coterie::ParseCatalogue(coterie::SerializeCatalogue(*catalogue), "again");
  COTERIE_CHECK(again.ok()) << again.status();
  COTERIE_CHECK(again->generation == catalogue->generation && again->entries == catalogue->entries);
  for (const coterie::CatalogueEntry& entry : catalogue->entries) {
    const auto resolved =
        catalogue->Resolve({.kind = coterie::ExpertSelector::Kind::kNamed, .name = entry.name});
    COTERIE_CHECK(resolved.ok() && resolved->version == &resolved->entry->live);
  }
  return 0;
}
