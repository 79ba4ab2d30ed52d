#include "common/quoted.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/utf8.h"

namespace coterie {
namespace {

// Of a whole character.
uint32_t CodePoint(std::string_view character) {
  const auto lead = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return lead;
  uint32_t point = lead & (0x7Fu >> character.size());
  for (const char byte : character.substr(1)) point = point << 6 | (static_cast<unsigned char>(byte) & 0x3F);
  return point;
}

// Breaks a line, steers a terminal or the direction of text, or cannot be seen.
bool IsUnfit(uint32_t point) {
  struct Range {
    uint32_t first, last;
  };
  constexpr Range kUnfit[] = {{0x00, 0x1F},     {0x7F, 0x9F},     {0xAD, 0xAD},     {0x61C, 0x61C},
                              {0x180E, 0x180E}, {0x200B, 0x200B}, {0x200E, 0x200F}, {0x2028, 0x202E},
                              {0x2060, 0x206F}, {0xFEFF, 0xFEFF}, {0xFFF9, 0xFFFB}, {0xE0000, 0xE007F}};
  for (const Range& range : kUnfit) {
    if (point >= range.first && point <= range.last) return true;
  }
  return false;
}

std::string Escape(std::string_view text, size_t max_bytes, bool is_quoted) {
  const std::string_view cut = CutUtf8(text, max_bytes);
  std::string out;
  out.reserve(cut.size() + 3);
  for (std::string_view rest = cut; !rest.empty();) {
    const Utf8Step step = StepUtf8(rest);
    const std::string_view part = rest.substr(0, step.n_bytes);
    rest.remove_prefix(step.n_bytes);
    if (step.kind != Utf8Step::kCharacter) {
      for (const char byte : part) absl::StrAppendFormat(&out, "\\x%02x", static_cast<unsigned char>(byte));
      continue;
    }
    const uint32_t point = CodePoint(part);
    if (is_quoted && (point == '"' || point == '\\')) {
      out.append("\\").append(part);
    } else if (point == '\n' || point == '\r' || point == '\t') {
      out.append(point == '\n' ? "\\n" : point == '\r' ? "\\r" : "\\t");
    } else if (!IsUnfit(point)) {
      out.append(part);
    } else if (point < 0x80) {
      absl::StrAppendFormat(&out, "\\x%02x", point);
    } else {
      absl::StrAppendFormat(&out, "\\u%04x", point);
    }
  }
  if (cut.size() < text.size()) out.append("…");
  return out;
}

}  // namespace

std::string Quoted(std::string_view text, size_t max_bytes) {
  return absl::StrCat("\"", Escape(text, max_bytes, /*is_quoted=*/true), "\"");
}

std::string Shown(std::string_view text, size_t max_bytes) {
  return Escape(text, max_bytes, /*is_quoted=*/false);
}

}  // namespace coterie
