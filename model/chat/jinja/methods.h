#ifndef COTERIE_MODEL_CHAT_JINJA_METHODS_H_
#define COTERIE_MODEL_CHAT_JINJA_METHODS_H_

#include <span>

#include "model/chat/jinja/builtins.h"

namespace coterie::jinja {

// `self` of these is a string.
std::span<const Builtin> StringMethods();

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_METHODS_H_
