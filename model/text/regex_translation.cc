#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "common/quoted.h"
#include "model/text/regex.h"
#include "model/text/unicode.h"
#include "model/text/unicode_tables.h"

// Oniguruma (Ruby syntax) to PCRE2. Where both read the same letters differently (\s, ^, $, {n,m}+, (?m),
// class set operations) the construct is spelled out or refused.
namespace coterie::text {
namespace {

// Contents of a character class: White_Space, and everything else. PCRE2's own \s holds U+180E as well.
constexpr std::string_view kSpace =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{"
    "3000}";
constexpr std::string_view kNotSpace =
    "\\x{0}-\\x{8}\\x{E}-\\x{1F}\\x{21}-\\x{84}\\x{86}-\\x{9F}\\x{A1}-\\x{167F}\\x{1681}-\\x{1FFF}"
    "\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}";
// What Oniguruma's \w adds to letters, marks, decimal digits, letter numbers and connectors.
constexpr std::string_view kMoreWord =
    "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}\\x{24B6}-\\x{24E9}\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{"
    "1F170}-"
    "\\x{1F189}";

constexpr std::array<std::string_view, 33> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",  "Pc", "Pd",
    "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "Cc", "Cf"};

// The contents of a class for a general category of one or two letters: PCRE2's, and what newer Unicode
// added.
std::string CategoryClass(std::string_view category) {
  std::string contents = absl::StrCat("\\p{", ToAbsl(category), "}");
  for (const NewCategory& added : NewCategories()) {
    if (added.category.substr(0, category.size()) != category) continue;
    for (const RuneRange& range : added.ranges) {
      absl::StrAppendFormat(&contents, "\\x{%X}-\\x{%X}", static_cast<uint32_t>(range.first),
                            static_cast<uint32_t>(range.last));
    }
  }
  return contents;
}

std::string WordClass() {
  std::string contents(kMoreWord);
  for (const std::string_view category : {"L", "M", "Nd", "Nl", "Pc"}) contents += CategoryClass(category);
  return contents;
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  StatusOr<std::string> Run() {
    if (!IsWellFormed(in_)) return Refuse("ill-formed UTF-8");
    while (pos_ < in_.size()) {
      const char c = in_[pos_];
      if (c == '\\') {
        RETURN_IF_ERROR(Escape(/*in_class=*/false));
      } else if (c == '[') {
        RETURN_IF_ERROR(Class());
      } else if (c == '(') {
        RETURN_IF_ERROR(Group());
      } else if (c == '{') {
        RETURN_IF_ERROR(Interval());
      } else if (c == '^') {
        ++pos_;
        out_ += "(?m:^)";  // Ruby's ^ and $ work at every line
      } else if (c == '$') {
        ++pos_;
        out_ += "(?m:$)";
      } else {
        out_ += c;
        ++pos_;
      }
    }
    return out_;
  }

 private:
  Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(absl::StrCat("regular expression ", Quoted(in_, kShownPatternBytes),
                                                   " uses ", ToAbsl(what), " at offset ", pos_,
                                                   ", which is not supported"));
  }
  bool At(std::string_view s) const { return in_.substr(pos_).substr(0, s.size()) == s; }
  char Peek(size_t ahead = 0) const { return pos_ + ahead < in_.size() ? in_[pos_ + ahead] : '\0'; }

  // A set of characters, as a class of its own or as part of one.
  void Set(std::string_view contents, bool in_class) {
    if (in_class) {
      out_ += contents;
    } else {
      absl::StrAppend(&out_, "[", ToAbsl(contents), "]");
    }
  }

  Status Escape(bool in_class) {
    const char c = Peek(1);
    switch (c) {
      case 's':
        Set(kSpace, in_class);
        break;
      case 'S':
        Set(kNotSpace, in_class);
        break;
      case 'd':
        Set(CategoryClass("Nd"), in_class);
        break;
      case 'D':
        if (in_class) return Refuse("\\D in a class");
        absl::StrAppend(&out_, "[^", CategoryClass("Nd"), "]");
        break;
      case 'w':
        Set(WordClass(), in_class);
        break;
      case 'W':
        if (in_class) return Refuse("\\W in a class");
        absl::StrAppend(&out_, "[^", WordClass(), "]");
        break;
      case 'p':
      case 'P':
        return Property(in_class);
      case 'x':
      case 'u':
        return CodePoint();
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e':
        absl::StrAppend(&out_, "\\", std::string(1, c));
        break;
      case 'v':
        out_ += "\\x{B}";  // one character to Oniguruma, all vertical space to PCRE2
        break;
      case 'A':
      case 'z':
        if (in_class) return Refuse("an anchor in a class");
        absl::StrAppend(&out_, "\\", std::string(1, c));
        break;
      default:
        if (c == '\0' || static_cast<unsigned char>(c) >= 0x80 ||
            absl::ascii_isalnum(static_cast<unsigned char>(c))) {
          return Refuse(absl::StrCat("\\", std::string(1, c)));
        }
        absl::StrAppend(&out_, "\\", std::string(1, c));
    }
    pos_ += 2;
    return absl::OkStatus();
  }

  // \p{L}, \p{^L}, \P{L} for general categories.
  Status Property(bool in_class) {
    const bool negated_by_letter = Peek(1) == 'P';
    if (Peek(2) != '{') return Refuse("\\p without braces");
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos) return Refuse("an unfinished \\p{");
    std::string_view name = in_.substr(pos_ + 3, close - pos_ - 3);
    const bool negated_by_caret = !name.empty() && name[0] == '^';
    if (negated_by_caret) name.remove_prefix(1);
    if (std::find(kCategories.begin(), kCategories.end(), name) == kCategories.end()) {
      return Refuse(absl::StrCat("the property ", ToAbsl(name)));
    }
    const std::string contents = CategoryClass(name);
    if (negated_by_letter == negated_by_caret) {
      Set(contents, in_class);
    } else if (in_class) {
      return Refuse("a negated property in a class");
    } else {
      absl::StrAppend(&out_, "[^", contents, "]");
    }
    pos_ = close + 1;
    return absl::OkStatus();
  }

  // \x{H...}, \xHH, \uHHHH.
  Status CodePoint() {
    size_t first = pos_ + 2;
    size_t last = 0;
    size_t next = 0;
    if (Peek(1) == 'x' && Peek(2) == '{') {
      ++first;
      last = in_.find('}', first);
      if (last == std::string_view::npos) return Refuse("an unfinished \\x{");
      next = last + 1;
    } else {
      last = next = first + (Peek(1) == 'x' ? 2 : 4);
    }
    if (last > in_.size() || last == first || last - first > 6) return Refuse("a malformed code point");
    char32_t rune = 0;
    for (const char c : in_.substr(first, last - first)) {
      if (!absl::ascii_isxdigit(static_cast<unsigned char>(c))) return Refuse("a malformed code point");
      rune = rune * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (rune > 0x10FFFF || (rune >= 0xD800 && rune < 0xE000)) return Refuse("a code point outside Unicode");
    absl::StrAppendFormat(&out_, "\\x{%X}", static_cast<uint32_t>(rune));
    pos_ = next;
    return absl::OkStatus();
  }

  Status Class() {
    out_ += in_[pos_++];
    if (Peek() == '^') out_ += in_[pos_++];
    bool first = true;
    while (pos_ < in_.size()) {
      const char c = in_[pos_];
      if (c == ']') {
        if (first) return Refuse("an empty class");
        out_ += in_[pos_++];
        return absl::OkStatus();
      }
      first = false;
      if (c == '[') return Refuse("a class within a class");
      if (At("&&")) return Refuse("class intersection &&");
      if (c == '\\') {
        RETURN_IF_ERROR(Escape(/*in_class=*/true));
      } else {
        out_ += c;
        ++pos_;
      }
    }
    return Refuse("an unfinished class");
  }

  Status Group() {
    if (Peek(1) != '?') {
      out_ += "(?:";  // captures are not used
      ++pos_;
      return absl::OkStatus();
    }
    for (const std::string_view open : {"(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:"}) {
      if (At(open)) {
        out_ += open;
        pos_ += open.size();
        return absl::OkStatus();
      }
    }
    if (pos_ == 0 && At("(?i)")) {  // elsewhere its reach differs between the two
      out_ += "(?i)";
      pos_ += 4;
      return absl::OkStatus();
    }
    return Refuse(absl::StrCat("the group ", ToAbsl(in_.substr(pos_, 4))));
  }

  // {n}, {n,}, {n,m}, {,m}. A + or ? behind it means something else to PCRE2.
  Status Interval() {
    const size_t close = in_.find('}', pos_);
    if (close == std::string_view::npos) return Refuse("a lone {");
    const std::string_view body = in_.substr(pos_ + 1, close - pos_ - 1);
    const size_t comma = body.find(',');
    const std::string_view low = body.substr(0, comma);
    const std::string_view high =
        comma == std::string_view::npos ? std::string_view() : body.substr(comma + 1);
    const auto digits = [](std::string_view s) {
      return s.size() <= 4 && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
    };
    if (!digits(low) || !digits(high) || (low.empty() && high.empty())) return Refuse("a malformed interval");
    pos_ = close + 1;
    if (Peek() == '+' || Peek() == '?') return Refuse("a quantifier behind an interval");
    absl::StrAppend(&out_, "{", low.empty() ? "0" : ToAbsl(low), comma == std::string_view::npos ? "" : ",",
                    ToAbsl(high), "}");
    return absl::OkStatus();
  }

  std::string_view in_;
  size_t pos_ = 0;
  std::string out_;
};

}  // namespace

StatusOr<std::string> TranslateOniguruma(std::string_view pattern) { return Translator(pattern).Run(); }

}  // namespace coterie::text
