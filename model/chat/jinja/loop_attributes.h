#ifndef COTERIE_MODEL_CHAT_JINJA_LOOP_ATTRIBUTES_H_
#define COTERIE_MODEL_CHAT_JINJA_LOOP_ATTRIBUTES_H_

#include <memory>
#include <optional>
#include <string_view>

#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {

// loop.index and its kin, loop.cycle and loop.changed; nullopt for other names.
std::optional<Value> LoopAttribute(const std::shared_ptr<Loop>& loop, std::string_view name);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_LOOP_ATTRIBUTES_H_
