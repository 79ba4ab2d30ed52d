#ifndef COTERIE_COMMON_NEAREST_H_
#define COTERIE_COMMON_NEAREST_H_

#include <cstddef>
#include <span>
#include <string_view>

namespace coterie {

// The one of `known` that `written` most likely means: the fewest single-character edits (Levenshtein), at
// most three and half of the shorter word. Empty when none is near: beyond that it is another word. For
// messages ("did you mean ...?").
std::string_view Nearest(std::string_view written, std::span<const std::string_view> known);

}  // namespace coterie

#endif  // COTERIE_COMMON_NEAREST_H_
