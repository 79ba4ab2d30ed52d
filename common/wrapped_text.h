#ifndef COTERIE_COMMON_WRAPPED_TEXT_H_
#define COTERIE_COMMON_WRAPPED_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace coterie {

// Columns that a help text may fill on standard output: the terminal's, from 60 to 100; 80 where there is
// none.
size_t HelpColumns();

// Characters of UTF-8, each taken for one column: near enough for help texts and tables.
size_t TextColumns(std::string_view text);

// `text` in lines of at most `columns`, each after the first indented by `indent` and none but the last
// ended. Breaks at white space only, whatever the white space was, and not inside "(default ...)"; the last
// line is no single short word where the one before can spare one. A word longer than a line stands alone.
std::string WrapText(std::string_view text, size_t columns, size_t indent = 0);

}  // namespace coterie

#endif  // COTERIE_COMMON_WRAPPED_TEXT_H_
