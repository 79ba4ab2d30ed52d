#ifndef COTERIE_TOOLS_COTERIE_TERMINAL_H_
#define COTERIE_TOOLS_COTERIE_TERMINAL_H_

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/utf8.h"

namespace coterie::command {

// Colours, only when the stream is a terminal and NO_COLOR (no-color.org) is not set.
class Terminal {
 public:
  explicit Terminal(std::FILE* stream);
  bool colours() const { return colours_; }
  std::string Bold(std::string_view text) const { return Paint("1", text); }
  std::string Dim(std::string_view text) const { return Paint("2", text); }
  std::string Red(std::string_view text) const { return Paint("31", text); }
  std::string Green(std::string_view text) const { return Paint("32", text); }
  // One of six colours, by number: tells streams side by side apart.
  std::string Tint(size_t index, std::string_view text) const;

 private:
  std::string Paint(std::string_view code, std::string_view text) const;
  bool colours_;
};

// Columns as wide as their widest cell; the first row is the heading. Numbers (cells that end in a digit)
// stand right. Cells are made printable, since they come from a server.
std::string FormatTable(std::vector<std::vector<std::string>> rows);

// "12 ms", "1.3 s".
std::string FormatSeconds(double seconds);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_TERMINAL_H_
