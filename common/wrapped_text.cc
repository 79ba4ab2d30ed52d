#include "common/wrapped_text.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "absl/strings/str_split.h"
#include "common/status.h"

namespace coterie {
namespace {

constexpr size_t kFewestColumns = 60;
constexpr size_t kMostColumns = 100;  // longer lines are hard to read
constexpr size_t kUsualColumns = 80;

constexpr size_t kMostTogether = 32;  // columns of a bracket that is not broken
constexpr size_t kShortWord = 12;     // a last line of one such word looks lost

// Words as they may stand on lines of their own.
std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (const absl::string_view word :
       absl::StrSplit(ToAbsl(text), absl::ByAnyChar(" \t\n"), absl::SkipEmpty())) {
    const bool in_bracket =
        !words.empty() && words.back()[0] == '(' && words.back().find(')') == std::string::npos;
    if (in_bracket && TextColumns(words.back()) + 1 + word.size() <= kMostTogether) {
      absl::StrAppend(&words.back(), " ", word);
    } else {
      words.emplace_back(word);
    }
  }
  return words;
}

}  // namespace

size_t HelpColumns() {
  winsize size = {};
  if (::isatty(STDOUT_FILENO) != 1 || ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    return kUsualColumns;
  }
  return std::clamp<size_t>(size.ws_col, kFewestColumns, kMostColumns);
}

size_t TextColumns(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string WrapText(std::string_view text, size_t columns, size_t indent) {
  std::vector<std::vector<std::string>> lines;
  size_t used = 0;
  for (std::string& word : Words(text)) {
    const size_t wide = TextColumns(word);
    if (lines.empty() || used + 1 + wide > columns) {
      lines.emplace_back();
      used = wide;
    } else {
      used += 1 + wide;
    }
    lines.back().push_back(std::move(word));
  }
  if (lines.size() > 1 && lines.back().size() == 1 && TextColumns(lines.back()[0]) < kShortWord) {
    std::vector<std::string>& before = lines[lines.size() - 2];
    const size_t together =
        before.size() < 3 ? columns + 1 : TextColumns(before.back()) + 1 + TextColumns(lines.back()[0]);
    if (together <= columns) {
      lines.back().insert(lines.back().begin(), std::move(before.back()));
      before.pop_back();
    }
  }
  std::string out;
  for (const std::vector<std::string>& line : lines) {
    if (!out.empty()) out.append("\n").append(indent, ' ');
    for (size_t i = 0; i < line.size(); ++i) out.append(i == 0 ? "" : " ").append(line[i]);
  }
  return out;
}

}  // namespace coterie
