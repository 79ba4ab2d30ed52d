#include "tools/coterie/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/wrapped_text.h"

namespace coterie::command {
namespace {

bool IsNumber(std::string_view cell) {
  return !cell.empty() && cell.find_first_not_of("0123456789.,+-%~ msk/") == std::string_view::npos;
}

// As https://no-color.org has it.
bool AllowsColours() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): read before any other thread runs.
  return std::getenv("NO_COLOR") == nullptr;
}

}  // namespace

Terminal::Terminal(std::FILE* stream) : colours_(isatty(fileno(stream)) == 1 && AllowsColours()) {}

std::string Terminal::Paint(std::string_view code, std::string_view text) const {
  if (!colours_) return std::string(text);
  std::string painted = "\033[";
  painted.append(code).append("m").append(text).append("\033[0m");
  return painted;
}

std::string Terminal::Tint(size_t index, std::string_view text) const {
  constexpr std::string_view kCodes[] = {"36", "33", "35", "32", "34", "31"};
  return Paint(kCodes[index % std::size(kCodes)], text);
}

std::string FormatTable(std::vector<std::vector<std::string>> rows) {
  for (auto& row : rows) {
    for (std::string& cell : row) cell = Printable(cell);
  }
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], TextColumns(row[c]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string padding(widths[c] - TextColumns(row[c]), ' ');
      line += IsNumber(row[c]) ? padding + row[c] : row[c] + padding;
      if (c + 1 < row.size()) line += "  ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string FormatSeconds(double seconds) {
  return seconds < 1 ? absl::StrFormat("%.1f ms", seconds * 1e3) : absl::StrFormat("%.2f s", seconds);
}

}  // namespace coterie::command
