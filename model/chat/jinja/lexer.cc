#include "model/chat/jinja/lexer.h"

#include <algorithm>
#include <utility>

#include "model/chat/jinja/tag_lexer.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {

std::string Token::Describe() const {
  switch (kind) {
    case Kind::kEnd:
      return "the end of the template";
    case Kind::kData:
      return "text";
    case Kind::kBlockBegin:
      return "'{%'";
    case Kind::kBlockEnd:
      return "'%}'";
    case Kind::kVariableBegin:
      return "'{{'";
    case Kind::kVariableEnd:
      return "'}}'";
    case Kind::kInteger:
      return absl::StrCat(integer);
    case Kind::kFloat:
      return absl::StrCat(number);
    case Kind::kString:
      return "a string";
    default:
      return absl::StrCat("'", text, "'");
  }
}

namespace {

// \r\n and \r become \n; one newline at the very end is dropped.
std::string Normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

// The outer level: text and the tags in it. What is inside {{ }} and {% %} is TagLexer's.
class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}

  StatusOr<std::vector<Token>> Run() {
    while (position_ < source_.size()) {
      const size_t tag = NextTag(position_);
      if (tag == std::string_view::npos) {
        EmitData(source_.substr(position_));
        Advance(source_.size());
        break;
      }
      RETURN_IF_ERROR(Tag(tag));
    }
    tokens_.push_back({Token::Kind::kEnd, line_, ""});
    return std::move(tokens_);
  }

 private:
  bool At(size_t i, std::string_view s) const { return source_.substr(i).starts_with(s); }

  size_t NextTag(size_t from) const {
    for (size_t i = source_.find('{', from); i != std::string_view::npos; i = source_.find('{', i + 1)) {
      if (i + 1 < source_.size() &&
          (source_[i + 1] == '%' || source_[i + 1] == '{' || source_[i + 1] == '#')) {
        return i;
      }
    }
    return std::string_view::npos;
  }

  void EmitData(std::string_view text) {
    if (!text.empty()) tokens_.push_back({Token::Kind::kData, line_, std::string(text)});
  }

  void Advance(size_t to) {
    if (to > position_) line_starts_ = source_[to - 1] == '\n';
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<ptrdiff_t>(position_),
                                         source_.begin() + static_cast<ptrdiff_t>(to), '\n'));
    position_ = to;
  }

  size_t SkipSpace(size_t i) const {
    while (i < source_.size()) {
      size_t next = i;
      if (!IsSpace(NextChar(source_, &next))) break;
      i = next;
    }
    return i;
  }

  // Text before a tag whose control sign is `sign` ('-', '+' or 0).
  std::string_view StripBeforeTag(std::string_view text, char sign, bool is_variable) const {
    if (sign == '-') return text.substr(0, Strip(text, "", false, true).end);
    if (sign == '+' || is_variable) return text;
    const size_t newline = text.rfind('\n');
    const size_t line_begin = newline == std::string_view::npos ? 0 : newline + 1;
    if (line_begin == 0 && !line_starts_) return text;
    const std::string_view line = text.substr(line_begin);
    return Strip(line, "", true, false).begin == line.size() ? text.substr(0, line_begin) : text;
  }

  // Past the closing mark at `i` ("%}" or "#}", perhaps signed): trims what the sign or trim_blocks says.
  // npos when no closing mark stands there.
  size_t PastBlockEnd(size_t i, std::string_view mark) const {
    if (At(i, "+") && At(i + 1, mark)) return i + 1 + mark.size();
    if (At(i, "-") && At(i + 1, mark)) return SkipSpace(i + 1 + mark.size());
    if (!At(i, mark)) return std::string_view::npos;
    i += mark.size();
    return At(i, "\n") ? i + 1 : i;
  }

  char SignAt(size_t i) const { return At(i, "-") ? '-' : At(i, "+") ? '+' : 0; }

  // Past "{% raw %}" at `tag`, or npos when another tag stands there.
  size_t PastRawBegin(size_t tag) const {
    size_t i = SkipSpace(tag + 2 + (SignAt(tag + 2) ? 1 : 0));
    if (!At(i, "raw")) return std::string_view::npos;
    i = SkipSpace(i + 3);
    if (At(i, "-%}")) return SkipSpace(i + 3);
    return At(i, "%}") ? i + 2 : std::string_view::npos;
  }

  Status Tag(size_t tag) {
    const char kind = source_[tag + 1];
    const char sign = SignAt(tag + 2);
    EmitData(StripBeforeTag(source_.substr(position_, tag - position_), sign, kind == '{'));
    Advance(tag);
    if (kind == '#') return Comment(tag + 2 + (sign ? 1 : 0));
    if (kind == '%') {
      if (const size_t raw = PastRawBegin(tag); raw != std::string_view::npos) return Raw(raw);
    }
    return Inside(tag + 2 + (sign ? 1 : 0), kind == '{');
  }

  Status Comment(size_t i) {
    const int line = line_;
    for (; i < source_.size(); ++i) {
      if (const size_t end = PastBlockEnd(i, "#}"); end != std::string_view::npos) {
        Advance(end);
        return absl::OkStatus();
      }
    }
    return absl::InvalidArgumentError(absl::StrCat("line ", line, ": the comment is never closed"));
  }

  Status Raw(size_t begin) {
    const int line = line_;
    Advance(begin);
    for (size_t i = source_.find("{%", begin); i != std::string_view::npos; i = source_.find("{%", i + 1)) {
      const char sign = SignAt(i + 2);
      size_t end = SkipSpace(i + 2 + (sign ? 1 : 0));
      if (!At(end, "endraw")) continue;
      end = PastBlockEnd(SkipSpace(end + 6), "%}");
      if (end == std::string_view::npos) continue;
      EmitData(StripBeforeTag(source_.substr(begin, i - begin), sign, false));
      Advance(end);
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat("line ", line, ": the raw block is never closed"));
  }

  Status Inside(size_t begin, bool is_variable) {
    tokens_.push_back({is_variable ? Token::Kind::kVariableBegin : Token::Kind::kBlockBegin, line_, ""});
    Advance(begin);
    TagLexer lexer(source_);
    while (true) {
      Advance(SkipSpace(position_));
      if (position_ >= source_.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("line ", tokens_.back().line, ": the tag is never closed"));
      }
      if (lexer.balanced()) {
        const size_t end = is_variable ? PastVariableEnd(position_) : PastBlockEnd(position_, "%}");
        if (end != std::string_view::npos) {
          tokens_.push_back({is_variable ? Token::Kind::kVariableEnd : Token::Kind::kBlockEnd, line_, ""});
          Advance(end);
          return absl::OkStatus();
        }
      }
      size_t end = position_;
      ASSIGN_OR_RETURN(Token token, lexer.Next(&end, line_));
      tokens_.push_back(std::move(token));
      Advance(end);
    }
  }

  size_t PastVariableEnd(size_t i) const {
    if (At(i, "-}}")) return SkipSpace(i + 3);
    return At(i, "}}") ? i + 2 : std::string_view::npos;
  }

  std::string_view source_;
  size_t position_ = 0;
  int line_ = 1;
  bool line_starts_ =
      true;  // what was read last ended a line: white space before a block here may be stripped
  std::vector<Token> tokens_;
};

}  // namespace

StatusOr<std::vector<Token>> Tokenize(std::string_view source) {
  const std::string normalized = Normalized(source);
  return Lexer(normalized).Run();
}

}  // namespace coterie::jinja
