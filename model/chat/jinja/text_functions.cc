#include "model/chat/jinja/text_functions.h"

#include <algorithm>

#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {

Text ToUpper(const Text& text) {
  return MapChars(text, [](char32_t c, size_t) { return Upper(c); });
}

Text ToLower(const Text& text) {
  return MapChars(text, [](char32_t c, size_t) { return Lower(c); });
}

Text Capitalized(const Text& text) {
  return MapChars(text, [](char32_t c, size_t i) { return i == 0 ? Upper(c) : Lower(c); });
}

Text SwapCase(const Text& text) {
  return MapChars(text, [](char32_t c, size_t) { return IsUpper(c) ? Lower(c) : Upper(c); });
}

Text CaseFolded(const Text& text) {
  return MapChars(text, [](char32_t c, size_t) { return CaseFold(c); });
}

Text TitleCase(const Text& text) {
  bool inside = false;
  return MapChars(text, [&inside](char32_t c, size_t) {
    const bool was_inside = inside;
    inside = IsCased(c);
    return was_inside ? Lower(c) : Upper(c);
  });
}

Text Escaped(const Text& text) {
  if (text.markup()) return text;
  Text out = MapChars(text, [](char32_t c, size_t) -> std::string {
    if (c == '&') return "&amp;";
    if (c == '<') return "&lt;";
    if (c == '>') return "&gt;";
    if (c == '\'') return "&#39;";
    if (c == '"') return "&#34;";
    std::string same;
    AppendUtf8(c, &same);
    return same;
  });
  out.set_markup(true);
  return out;
}

StatusOr<Text> Replace(const Text& text, const Text& old, const Text& with, int64_t count, Budget* budget) {
  const std::string_view s = text.bytes();
  Text out;
  out.set_markup(text.markup());
  size_t from = 0;
  const auto append = [&](size_t end, bool replaced) -> Status {
    RETURN_IF_ERROR(budget->Bytes(end - from + (replaced ? with.size() : 0)));
    out.Append(text, from, end);
    if (replaced) out.Append(with);
    return absl::OkStatus();
  };
  if (old.empty()) {
    for (size_t at = 0; count != 0; --count) {
      RETURN_IF_ERROR(append(at, true));
      from = at;
      if (at >= s.size()) break;
      NextChar(s, &at);
    }
  } else {
    for (; count != 0; --count) {
      const size_t at = s.find(old.bytes(), from);
      if (at == std::string_view::npos) break;
      RETURN_IF_ERROR(append(at, true));
      from = at + old.size();
    }
  }
  RETURN_IF_ERROR(append(s.size(), false));
  return out;
}

StatusOr<Text> Repeated(const Text& fill, size_t n, Budget* budget) {
  size_t n_bytes;
  if (__builtin_mul_overflow(fill.size(), n, &n_bytes)) n_bytes = SIZE_MAX;
  RETURN_IF_ERROR(budget->Bytes(n_bytes));
  Text out = fill.Slice(0, 0);
  for (size_t i = 0; i < n && !fill.empty(); ++i) out.Append(fill);
  return out;
}

StatusOr<Text> Centered(const Text& text, int64_t width, const Text& fill, Budget* budget) {
  const auto n_chars = static_cast<int64_t>(CountChars(text.bytes()));
  if (width <= n_chars) return text;
  const auto pad = static_cast<size_t>(width - n_chars);
  // The odd space goes to the left when the width is odd, as in str.center.
  const size_t n_left = pad / 2 + (pad & static_cast<size_t>(width) & 1);
  ASSIGN_OR_RETURN(const Text left, Repeated(fill, n_left, budget));
  ASSIGN_OR_RETURN(const Text right, Repeated(fill, pad - n_left, budget));
  Text out = text.Slice(0, 0);
  out.Append(left);
  out.Append(text);
  out.Append(right);
  return out;
}

StatusOr<Text> Join(const std::vector<Text>& parts, const Text& separator, Budget* budget) {
  Text out;
  out.set_markup(separator.markup());
  for (size_t i = 0; i < parts.size(); ++i) {
    RETURN_IF_ERROR(budget->Bytes(parts[i].size() + separator.size()));
    if (i > 0) out.Append(separator);
    out.Append(parts[i]);
  }
  return out;
}

namespace {

bool EndsLine(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

}  // namespace

std::vector<Text> SplitLines(const Text& text, bool keep_ends) {
  const std::string_view s = text.bytes();
  std::vector<Text> lines;
  size_t begin = 0;
  for (size_t next = 0; next < s.size();) {
    const size_t end = next;
    if (!EndsLine(NextChar(s, &next))) continue;
    if (s[end] == '\r' && next < s.size() && s[next] == '\n') ++next;
    lines.push_back(text.Slice(begin, keep_ends ? next : end));
    begin = next;
  }
  if (begin < s.size()) lines.push_back(text.Slice(begin, s.size()));
  return lines;
}

namespace {

struct Gap {  // a separator found: bytes [begin, end)
  size_t begin;
  size_t end;
};

std::vector<Gap> FindGaps(std::string_view s, std::string_view separator, bool from_right) {
  std::vector<Gap> gaps;
  if (separator.empty()) {
    for (size_t i = 0; i < s.size();) {
      const size_t begin = i;
      if (!IsSpace(NextChar(s, &i))) continue;
      if (!gaps.empty() && gaps.back().end == begin) {
        gaps.back().end = i;
      } else {
        gaps.push_back({begin, i});
      }
    }
  } else if (from_right) {
    for (size_t end = s.size(); end >= separator.size();) {
      const size_t at = s.rfind(separator, end - separator.size());
      if (at == std::string_view::npos) break;
      gaps.push_back({at, at + separator.size()});
      end = at;
    }
    std::reverse(gaps.begin(), gaps.end());
  } else {
    for (size_t at = s.find(separator); at != std::string_view::npos;
         at = s.find(separator, at + separator.size())) {
      gaps.push_back({at, at + separator.size()});
    }
  }
  return gaps;
}

}  // namespace

std::vector<Text> Split(const Text& text, std::string_view separator, int64_t max_splits, bool from_right) {
  const bool at_space = separator.empty();
  // White space at both ends separates nothing; once the splits are used up, what is left keeps its far end.
  const ByteRange kept = at_space ? Strip(text.bytes(), "", true, true) : ByteRange{0, text.size()};
  if (at_space && kept.begin == kept.end) return {};
  const std::string_view s = text.bytes().substr(kept.begin, kept.end - kept.begin);
  std::vector<Gap> gaps = FindGaps(s, separator, from_right);
  bool limited = false;
  if (max_splits >= 0 && static_cast<size_t>(max_splits) < gaps.size()) {
    limited = true;
    if (from_right) {
      gaps.erase(gaps.begin(), gaps.end() - max_splits);
    } else {
      gaps.resize(static_cast<size_t>(max_splits));
    }
  }
  std::vector<Text> parts;
  size_t begin = kept.begin;
  for (const Gap& gap : gaps) {
    parts.push_back(text.Slice(begin, kept.begin + gap.begin));
    begin = kept.begin + gap.end;
  }
  parts.push_back(text.Slice(begin, kept.end));
  if (at_space && limited && !from_right) parts.back().Append(text, kept.end, text.size());
  if (at_space && limited && from_right) {
    Text first = text.Slice(0, kept.begin);
    first.Append(parts.front());
    parts.front() = std::move(first);
  }
  return parts;
}

}  // namespace coterie::jinja
