#ifndef COTERIE_MODEL_STORE_CATALOGUE_TEXT_H_
#define COTERIE_MODEL_STORE_CATALOGUE_TEXT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/store/catalogue.h"

namespace coterie::store_internal {

// How catalogue.json is laid out by SerializeCatalogue: a first line that ends with '[', one expert a line
// with commas between, a last line "]}". A damaged expert then ends at the end of its line.
inline constexpr int kCatalogueFormat = 1;

// The line of one expert, without the comma.
void AppendEntry(const CatalogueEntry& entry, std::string* out);

struct CatalogueLines {
  uint64_t generation = 0;
  std::vector<std::string_view> experts;  // without their commas
};
// The lines of a text that has that layout from its first byte to its last; nothing for any other text.
std::optional<CatalogueLines> SplitCatalogue(std::string_view text);

// What stands behind "name": in a line of an expert, as far as it is an expert's name; else empty.
std::string NameInLine(std::string_view line);
// A line that is no JSON as an object that is: so the next generation stays readable for everybody, and tells
// what the line was.
std::string DamagedText(std::string_view line);

}  // namespace coterie::store_internal

#endif  // COTERIE_MODEL_STORE_CATALOGUE_TEXT_H_
