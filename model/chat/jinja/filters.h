#ifndef COTERIE_MODEL_CHAT_JINJA_FILTERS_H_
#define COTERIE_MODEL_CHAT_JINJA_FILTERS_H_

#include <span>

#include "model/chat/jinja/builtins.h"

namespace coterie::jinja {

std::span<const Builtin> StringFilters();
std::span<const Builtin> SequenceFilters();
std::span<const Builtin> SelectionFilters();
std::span<const Builtin> ValueFilters();

// The value itself when `attribute` is none; else what "a.b.0" or an index reads of it.
StatusOr<Value> ReadAttribute(Interpreter& in, const Value& value, const Value& attribute);
// For sort, unique and the like: strings in lower case unless the case matters.
Value CaseKey(const Value& value, bool case_sensitive);
// Stable, by Compare over `keys`; gives the order of the positions.
StatusOr<std::vector<size_t>> SortedOrder(Interpreter& in, const std::vector<Value>& keys, bool reverse);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_FILTERS_H_
