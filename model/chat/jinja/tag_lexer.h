#ifndef COTERIE_MODEL_CHAT_JINJA_TAG_LEXER_H_
#define COTERIE_MODEL_CHAT_JINJA_TAG_LEXER_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "common/status.h"
#include "model/chat/jinja/lexer.h"

namespace coterie::jinja {

// The inside of one {{ }} or {% %}: names, numbers, strings, operators. Keeps the brackets balanced, since a
// tag ends only outside of them ("{{ {'a': {}} }}").
class TagLexer {
 public:
  explicit TagLexer(std::string_view source) : source_(source) {}

  // The token at byte `*position` (not white space, not the end), which moves behind it.
  StatusOr<Token> Next(size_t* position, int line);
  bool balanced() const { return open_.empty(); }

 private:
  size_t EndOfName(size_t begin) const;
  StatusOr<Token> Number(size_t* position, int line);
  StatusOr<Token> String(size_t* position, int line);
  StatusOr<Token> Operator(size_t* position, int line);

  std::string_view source_;
  std::string open_;  // brackets that wait for their partner
};

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_TAG_LEXER_H_
