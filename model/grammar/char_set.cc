#include "model/grammar/char_set.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace coterie::grammar {
namespace {

constexpr char32_t kFirstSurrogate = 0xD800;
constexpr char32_t kLastSurrogate = 0xDFFF;

std::string Escaped(char32_t c) {
  const auto code = static_cast<uint32_t>(c);
  return code <= 0xFFFF ? absl::StrFormat("\\u%04X", code) : absl::StrFormat("\\U%08X", code);
}

}  // namespace

CharSet CharSet::Of(char32_t first, char32_t last) {
  CharSet set;
  set.Add(first, last);
  return set;
}

CharSet CharSet::All() { return Of(1, kLastCharacter); }

void CharSet::Add(char32_t first, char32_t last) {
  ranges_.emplace_back(std::max<char32_t>(first, 1), std::min(last, kLastCharacter));
  Normalize();
  Remove(kFirstSurrogate, kLastSurrogate);
}

void CharSet::Add(const CharSet& other) {
  ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
  Normalize();
}

void CharSet::Remove(char32_t first, char32_t last) {
  std::vector<std::pair<char32_t, char32_t>> left;
  for (const auto& [begin, end] : ranges_) {
    if (begin < first) left.emplace_back(begin, std::min<char32_t>(end, first - 1));
    if (end > last) left.emplace_back(std::max<char32_t>(begin, last + 1), end);
  }
  ranges_ = std::move(left);
}

CharSet CharSet::Complement() const {
  CharSet rest = All();
  for (const auto& [begin, end] : ranges_) rest.Remove(begin, end);
  return rest;
}

bool CharSet::Contains(char32_t c) const {
  return std::any_of(ranges_.begin(), ranges_.end(),
                     [c](const auto& range) { return range.first <= c && c <= range.second; });
}

char32_t CharSet::Single() const {
  return ranges_.size() == 1 && ranges_[0].first == ranges_[0].second ? ranges_[0].first : 0;
}

std::string CharSet::ToGrammar() const {
  std::string out = "[";
  for (const auto& [begin, end] : ranges_) {
    out += Escaped(begin);
    if (end > begin) absl::StrAppend(&out, "-", Escaped(end));
  }
  return out + "]";
}

void CharSet::Normalize() {
  std::erase_if(ranges_, [](const auto& range) { return range.first > range.second; });
  std::sort(ranges_.begin(), ranges_.end());
  std::vector<std::pair<char32_t, char32_t>> joined;
  for (const auto& range : ranges_) {
    if (!joined.empty() && range.first <= joined.back().second + 1) {
      joined.back().second = std::max(joined.back().second, range.second);
    } else {
      joined.push_back(range);
    }
  }
  ranges_ = std::move(joined);
}

std::string Literal(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out += Escaped(byte);
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out += c;
    }
  }
  return out + "\"";
}

}  // namespace coterie::grammar
