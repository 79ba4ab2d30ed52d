#ifndef COTERIE_MODEL_STORE_YAML_TREE_H_
#define COTERIE_MODEL_STORE_YAML_TREE_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// One value of a YAML document, with the line (from 1) it stands on or, in a map, its key.
struct YamlValue {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;
  std::string scalar;             // kScalar: valid UTF-8
  std::vector<YamlValue> items;   // kList; kMap: the value of keys[i] is items[i]
  std::vector<std::string> keys;  // kMap, in the file's order; none twice

  const YamlValue* Find(std::string_view key) const;
};

struct YamlLimits {
  size_t max_bytes = 64 << 10;
  int max_depth = 8;
  size_t max_values = 4096;
};

// Parses the subset of YAML 1.2 that a card needs: one document of maps, lists and scalars. Anchors, aliases
// and tags are refused (a few bytes of aliases can stand for gigabytes), as are keys that are not scalars or
// appear twice. InvalidArgument naming `name`, line and reason.
StatusOr<YamlValue> ParseYaml(std::string_view text, std::string_view name, const YamlLimits& limits = {});

}  // namespace coterie

#endif  // COTERIE_MODEL_STORE_YAML_TREE_H_
