#include "model/format/describe.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace coterie {

std::string ShapeText(std::span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape.begin(), shape.end(), ", "), "]");
}

}  // namespace coterie
