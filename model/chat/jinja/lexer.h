#ifndef COTERIE_MODEL_CHAT_JINJA_LEXER_H_
#define COTERIE_MODEL_CHAT_JINJA_LEXER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie::jinja {

struct Token {
  enum class Kind {
    kData,  // text between tags, white-space control already applied
    kBlockBegin,
    kBlockEnd,
    kVariableBegin,
    kVariableEnd,
    kName,
    kString,  // value in `text`, escapes resolved
    kInteger,
    kFloat,
    kOperator,  // spelling in `text`
    kEnd,
  };
  Kind kind;
  int line;
  std::string text;
  int64_t integer = 0;
  double number = 0;

  bool IsOperator(std::string_view spelling) const { return kind == Kind::kOperator && text == spelling; }
  bool IsName(std::string_view name) const { return kind == Kind::kName && text == name; }
  // For messages: "end of the template", "'endif'".
  std::string Describe() const;
};

// Splits a template as jinja2 does with trim_blocks, lstrip_blocks and no kept trailing newline (what
// transformers sets): one newline behind a block or comment goes, white space before one on its own line
// goes, `-` strips, `+` keeps. Comments and raw markers leave no tokens. `source` must be valid UTF-8. The
// last token is kEnd. InvalidArgument names the line.
StatusOr<std::vector<Token>> Tokenize(std::string_view source);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_LEXER_H_
