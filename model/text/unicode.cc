#include "model/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <span>

#include "model/text/unicode_tables.h"

namespace coterie::text {
namespace {

bool IsIn(std::span<const RuneRange> ranges, char32_t rune) {
  const auto range =
      std::upper_bound(ranges.begin(), ranges.end(), rune,
                       [](char32_t r, const RuneRange& candidate) { return r < candidate.first; });
  return range != ranges.begin() && rune <= std::prev(range)->last;
}

}  // namespace

char32_t PreviousRune(std::string_view text, size_t* end) {
  size_t begin = *end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  size_t pos = begin;
  *end = begin;
  return NextRune(text, &pos);
}

void AppendRune(char32_t rune, std::string* out) {
  const auto put = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (rune < 0x80) {
    put(rune);
  } else if (rune < 0x800) {
    put(0xC0 | (rune >> 6));
    put(0x80 | (rune & 0x3F));
  } else if (rune < 0x10000) {
    put(0xE0 | (rune >> 12));
    put(0x80 | ((rune >> 6) & 0x3F));
    put(0x80 | (rune & 0x3F));
  } else {
    put(0xF0 | (rune >> 18));
    put(0x80 | ((rune >> 12) & 0x3F));
    put(0x80 | ((rune >> 6) & 0x3F));
    put(0x80 | (rune & 0x3F));
  }
}

bool IsWhitespace(char32_t rune) {
  if (rune < 0x80) return rune == ' ' || (rune >= 0x9 && rune <= 0xD);
  return rune == 0x85 || rune == 0xA0 || rune == 0x1680 || (rune >= 0x2000 && rune <= 0x200A) ||
         rune == 0x2028 || rune == 0x2029 || rune == 0x202F || rune == 0x205F || rune == 0x3000;
}

bool IsNumeric(char32_t rune) {
  if (rune < 0x80) return rune >= '0' && rune <= '9';
  return IsIn(NumericRanges(), rune);
}

bool IsPunctuation(char32_t rune) { return IsIn(PunctuationRanges(), rune); }

bool IsNonspacingMark(char32_t rune) { return rune >= 0x300 && IsIn(NonspacingMarkRanges(), rune); }

bool IsMark(char32_t rune) { return rune >= 0x300 && IsIn(MarkRanges(), rune); }

bool IsOther(char32_t rune) {
  if (rune < 0x80) return rune < 0x20 || rune == 0x7F;
  return IsIn(OtherRanges(), rune);
}

bool IsWord(char32_t rune) { return IsIn(WordRanges(), rune); }

void AppendLower(char32_t rune, std::string* out) {
  if (rune < 0x80) {
    out->push_back(static_cast<char>(rune >= 'A' && rune <= 'Z' ? rune + 32 : rune));
    return;
  }
  if (rune == 0x130) {  // the one character whose full lower case is longer than one (SpecialCasing.txt)
    out->append("i\xCC\x87");
    return;
  }
  for (const CaseRange& range : NewLowercase()) {
    if (rune < range.first || rune > range.last) continue;
    AppendRune(static_cast<char32_t>(static_cast<int32_t>(rune) + range.delta), out);
    return;
  }
  AppendRune(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(rune))), out);
}

namespace {

// Normalises what utf8proc and the reference know alike.
Status AppendNormalized(std::string_view text, utf8proc_option_t options, std::string* out) {
  if (text.empty()) return absl::OkStatus();
  utf8proc_uint8_t* mapped = nullptr;
  const utf8proc_ssize_t n_bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                                static_cast<utf8proc_ssize_t>(text.size()), &mapped, options);
  if (n_bytes < 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot normalise ", text.size(), " bytes of text: ", utf8proc_errmsg(n_bytes)));
  }
  out->append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(n_bytes));
  std::free(mapped);
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::string> Normalize(std::string_view text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::kC || form == NormalForm::kKc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::kKc || form == NormalForm::kKd) options |= UTF8PROC_COMPAT;
  std::string out;
  out.reserve(text.size());
  // A character the reference's tables do not know neither changes nor combines with its neighbours, so the
  // text falls apart there.
  size_t begin = 0;
  bool is_ascii = true;
  const auto flush = [&](size_t end) -> Status {
    const std::string_view part = text.substr(begin, end - begin);
    if (is_ascii) {
      out += part;
      return absl::OkStatus();
    }
    return AppendNormalized(part, static_cast<utf8proc_option_t>(options), &out);
  };
  for (size_t pos = 0; pos < text.size();) {
    const size_t here = pos;
    const char32_t rune = NextRune(text, &pos);
    if (rune < 0x80) continue;
    if (rune < 0x300 || !IsIn(FixedRanges(), rune)) {
      is_ascii = false;
      continue;
    }
    RETURN_IF_ERROR(flush(here));
    out += text.substr(here, pos - here);
    begin = pos;
    is_ascii = true;
  }
  RETURN_IF_ERROR(flush(text.size()));
  return out;
}

}  // namespace coterie::text
