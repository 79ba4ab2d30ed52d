#include "model/grammar/regex_grammar.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "common/utf8.h"
#include "model/grammar/char_set.h"
#include "model/grammar/class_escape.h"

namespace coterie::grammar {
namespace {

constexpr std::string_view kPunctuation = "^$\\.*+?()[]{}|/-\"'#&~@!%,:;<=>_` ";

char32_t CodeOf(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<unsigned char>(character[i])); };
  switch (character.size()) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F);
  }
}

// An expression and what it costs.
struct Part {
  std::string grammar;
  int size = 0;
};

class RegexReader {
 public:
  RegexReader(std::string_view regex, RegexText text) : regex_(regex), text_(text) {}

  StatusOr<std::string> Read() {
    ASSIGN_OR_RETURN(const Part all, Alternatives(0));
    if (!AtEnd()) return Refuse("a ')' without its '('");
    return all.grammar;
  }

 private:
  bool AtEnd() const { return at_ >= regex_.size(); }
  char Next() const { return AtEnd() ? '\0' : regex_[at_]; }
  bool Take(std::string_view text) {
    if (regex_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  Status Refuse(std::string_view what) const {
    return absl::InvalidArgumentError(
        absl::StrCat("regex ", Quoted(regex_, 200), ": ", ToAbsl(what), ", at byte ", at_));
  }
  StatusOr<Part> Checked(Part part) const {
    if (part.size <= kMaxRegexSize) return part;
    return Refuse(
        absl::StrCat("more than ", kMaxRegexSize, " characters once its repetitions are written out"));
  }

  StatusOr<Part> Alternatives(int depth) {
    if (depth > kMaxRegexDepth) return Refuse(absl::StrCat("groups nested deeper than ", kMaxRegexDepth));
    std::vector<std::string> choices;
    int size = 0;
    do {
      ASSIGN_OR_RETURN(Part part, Sequence(depth));
      size += part.size;
      choices.push_back(std::move(part.grammar));
    } while (Take("|"));
    if (choices.size() == 1) return Part{choices[0], size};
    return Checked({absl::StrCat("(", absl::StrJoin(choices, " | "), ")"), size});
  }

  StatusOr<Part> Sequence(int depth) {
    std::string grammar;
    int size = 0;
    const bool anchored = Take("^");
    if (anchored && depth > 0) return Refuse("'^' within a group");
    while (!AtEnd() && Next() != '|' && Next() != ')') {
      if (Next() == '^') return Refuse("'^' in the middle");
      if (Take("$")) {
        if (depth > 0) return Refuse("'$' within a group");
        if (!AtEnd() && Next() != '|') return Refuse("'$' in the middle");
        break;
      }
      ASSIGN_OR_RETURN(const Part part, Repeated(depth));
      absl::StrAppend(&grammar, grammar.empty() ? "" : " ", part.grammar);
      size += part.size;
      RETURN_IF_ERROR(Checked({"", size}).status());
    }
    return Part{grammar.empty() ? "\"\"" : grammar, size};
  }

  StatusOr<Part> Repeated(int depth) {
    ASSIGN_OR_RETURN(Part part, One(depth));
    while (!AtEnd()) {
      const char sign = Next();
      int times = 1;
      std::string suffix;
      if (sign == '*' || sign == '+' || sign == '?') {
        ++at_;
        suffix = sign;
      } else if (sign == '{') {
        ASSIGN_OR_RETURN(const std::optional<int> most, Braces(&suffix));
        times = std::max(1, most.value_or(1));
      } else {
        break;
      }
      if (Next() == '+') return Refuse("a possessive quantifier is not served");
      Take("?");  // lazy: the same texts
      if (part.grammar == "\"\"") continue;
      part = {absl::StrCat("(", part.grammar, ")", suffix), part.size * times};
      RETURN_IF_ERROR(Checked(part).status());
      if (!AtEnd() && (Next() == '*' || Next() == '+' || Next() == '?' || Next() == '{')) {
        return Refuse("a quantifier behind a quantifier; put the inner one into a group");
      }
    }
    return part;
  }

  // {m}, {m,}, {m,n}: returns the larger number.
  StatusOr<std::optional<int>> Braces(std::string* suffix) {
    const size_t end = regex_.find('}', at_);
    if (end == std::string_view::npos) return Refuse("a '{' without its '}'; write \\{ for the character");
    const std::string_view inside = regex_.substr(at_ + 1, end - at_ - 1);
    const size_t comma = inside.find(',');
    const auto number = [](std::string_view digits) -> std::optional<int> {
      if (digits.empty() || digits.size() > 6) return std::nullopt;
      int value = 0;
      for (const char c : digits) {
        if (c < '0' || c > '9') return std::nullopt;
        value = value * 10 + (c - '0');
      }
      return value;
    };
    const std::optional<int> least = number(inside.substr(0, comma));
    if (!least)
      return Refuse("a '{' that begins no quantifier ({m}, {m,}, {m,n}); write \\{ for the character");
    std::optional<int> most = least;
    if (comma != std::string_view::npos) {
      most = number(inside.substr(comma + 1));
      if (!most && comma + 1 != inside.size()) return Refuse("a '{' that begins no quantifier");
      if (most && *most < *least) return Refuse("a quantifier whose maximum is below its minimum");
    }
    if (std::max(*least, most.value_or(0)) > kMaxRepetitions) {
      return Refuse(absl::StrCat("more than ", kMaxRepetitions, " repetitions"));
    }
    *suffix = most ? absl::StrCat("{", *least, ",", *most, "}") : absl::StrCat("{", *least, ",}");
    at_ = end + 1;
    return most ? most : least;
  }

  StatusOr<Part> One(int depth) {
    if (Take("(")) return Group(depth);
    if (Take("[")) {
      ASSIGN_OR_RETURN(const CharSet set, Class());
      return Spell(set);
    }
    if (Take(".")) {
      CharSet set = CharSet::All();
      // What one reading or another calls the end of a line.
      for (const char32_t c : {U'\n', U'\r', U'\u0085', U'\u2028', U'\u2029'}) set.Remove(c, c);
      return Spell(set);
    }
    const char c = Next();
    if (c == '*' || c == '+' || c == '?' || c == '{') return Refuse("a quantifier with nothing before it");
    if (c == '\\' && at_ + 1 < regex_.size()) {
      if (const std::optional<ClassEscape> escape = ClassEscapeOf(regex_[at_ + 1])) {
        at_ += 2;
        return Spell(escape->surely);
      }
    }
    ASSIGN_OR_RETURN(const char32_t code, Character());
    return Spell(CharSet::Of(code, code));
  }

  StatusOr<Part> Group(int depth) {
    if (Take("?")) {
      const bool named =
          Take("P<") || (regex_.substr(at_, 2) != "<=" && regex_.substr(at_, 2) != "<!" && Take("<"));
      if (named) {
        const size_t end = regex_.find('>', at_);
        if (end == std::string_view::npos) return Refuse("a group's name without its '>'");
        at_ = end + 1;
      } else if (!Take(":")) {
        return Refuse("lookaround, flags and other (?…) groups are not served");
      }
    }
    ASSIGN_OR_RETURN(Part inside, Alternatives(depth + 1));
    if (!Take(")")) return Refuse("a '(' without its ')'");
    return inside.grammar == "\"\"" ? inside : Part{absl::StrCat("(", inside.grammar, ")"), inside.size};
  }

  // Behind "[".
  StatusOr<CharSet> Class() {
    const bool negated = Take("^");
    CharSet set;
    for (bool first = true; first || Next() != ']'; first = false) {
      if (AtEnd()) return Refuse("a '[' without its ']'");
      if (Next() == '[' && (regex_.substr(at_, 2) == "[:")) return Refuse("[:…:] classes are not served");
      if (Next() == '\\' && at_ + 1 < regex_.size()) {
        if (const std::optional<ClassEscape> inner = ClassEscapeOf(regex_[at_ + 1])) {
          at_ += 2;
          set.Add(negated ? inner->perhaps : inner->surely);
          continue;
        }
      }
      ASSIGN_OR_RETURN(const char32_t begin, Character());
      char32_t end = begin;
      if (Next() == '-' && at_ + 1 < regex_.size() && regex_[at_ + 1] != ']') {
        ++at_;
        if (Next() == '\\' && at_ + 1 < regex_.size() && ClassEscapeOf(regex_[at_ + 1])) {
          return Refuse("a range that ends in a class");
        }
        ASSIGN_OR_RETURN(end, Character());
        if (end < begin) return Refuse("a range that runs backwards");
      }
      set.Add(begin, end);
    }
    Take("]");
    return negated ? set.Complement() : set;
  }

  // One character, escaped or not.
  StatusOr<char32_t> Character() {
    if (Next() != '\\') {
      const Utf8Step step = StepUtf8(regex_.substr(at_));
      if (step.kind != Utf8Step::kCharacter) return Refuse("not UTF-8");
      const char32_t code = CodeOf(regex_.substr(at_, step.n_bytes));
      at_ += step.n_bytes;
      if (code == 0) return Refuse("U+0000 is not served");
      return code;
    }
    if (at_ + 1 >= regex_.size()) return Refuse("a backslash at the end");
    const char c = regex_[at_ + 1];
    if (c == 'x' || c == 'u') {
      const size_t n_digits = c == 'x' ? 2 : 4;
      char32_t code = 0;
      for (size_t i = 0; i < n_digits; ++i) {
        const char digit = at_ + 2 + i < regex_.size() ? regex_[at_ + 2 + i] : '\0';
        if (!std::isxdigit(static_cast<unsigned char>(digit))) {
          return Refuse("\\x wants two hexadecimal digits, \\u four");
        }
        code = code * 16 + static_cast<char32_t>(std::isdigit(static_cast<unsigned char>(digit))
                                                     ? digit - '0'
                                                     : std::tolower(digit) - 'a' + 10);
      }
      if (code == 0 || (code >= 0xD800 && code <= 0xDFFF))
        return Refuse("U+0000 and surrogates are not served");
      at_ += 2 + n_digits;
      return code;
    }
    constexpr std::string_view kLetters = "nrtfv", kMeanings = "\n\r\t\f\v";
    if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
      at_ += 2;
      return static_cast<char32_t>(kMeanings[letter]);
    }
    if (kPunctuation.find(c) != std::string_view::npos) {
      at_ += 2;
      return static_cast<char32_t>(c);
    }
    return Refuse(absl::StrCat("the escape ", Quoted(regex_.substr(at_, 2)), " is not served"));
  }

  // One character of the set, as the text spells it.
  StatusOr<Part> Spell(CharSet set) const {
    if (set.empty()) return Refuse("a class without characters");
    if (text_ == RegexText::kPlain) return Part{set.ToGrammar(), 1};
    std::vector<std::string> choices;
    constexpr std::string_view kEscaped = "\"\\\n\r\t\f\b", kLetters = "\"\\nrtfb";
    for (size_t i = 0; i < kEscaped.size(); ++i) {
      if (set.Contains(static_cast<char32_t>(kEscaped[i]))) {
        choices.push_back(Literal(absl::StrCat("\\", std::string(1, kLetters[i]))));
      }
    }
    set.Remove(1, 0x1F);
    set.Remove('"', '"');
    set.Remove('\\', '\\');
    if (!set.empty()) choices.insert(choices.begin(), set.ToGrammar());
    if (choices.empty()) return Refuse("a control character that JSON spells only by its number");
    if (choices.size() == 1) return Part{choices[0], 1};
    return Part{absl::StrCat("(", absl::StrJoin(choices, " | "), ")"), 1};
  }

  const std::string_view regex_;
  const RegexText text_;
  size_t at_ = 0;
};

}  // namespace

StatusOr<std::string> RegexGrammar(std::string_view regex, RegexText text) {
  if (regex.size() > kMaxRegexBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a regex of ", regex.size(), " bytes; at most ", kMaxRegexBytes, " are served"));
  }
  return RegexReader(regex, text).Read();
}

}  // namespace coterie::grammar
