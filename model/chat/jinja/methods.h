#ifndef COTERIE_MODEL_CHAT_JINJA_METHODS_H_
#define COTERIE_MODEL_CHAT_JINJA_METHODS_H_

#include <span>

#include "model/chat/jinja/builtins.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {

// `self` of these is a string.
std::span<const Builtin> StringMethods();
// str.format and str.format_map: of StringMethods too.
StatusOr<Value> FormatMethod(Interpreter& in, const Value& self, Args& args);
StatusOr<Value> FormatMapMethod(Interpreter& in, const Value& self, Args& args);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_METHODS_H_
