#ifndef COTERIE_MODEL_CHAT_JINJA_PARSER_H_
#define COTERIE_MODEL_CHAT_JINJA_PARSER_H_

#include <string_view>

#include "common/status.h"
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/limits.h"

namespace coterie::jinja {

// Source text -> tree. `source` must be valid UTF-8. Errors name the line: InvalidArgument for what is no
// Jinja, ResourceExhausted beyond the limits. Names of filters and tests that we do not know are kept:
// reaching one is the error.
StatusOr<Body> Parse(std::string_view source, const Limits& limits);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_PARSER_H_
