#ifndef COTERIE_MODEL_CHAT_JINJA_FILTERS_H_
#define COTERIE_MODEL_CHAT_JINJA_FILTERS_H_

#include <span>

#include "model/chat/jinja/builtins.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {

std::span<const Builtin> StringFilters();
std::span<const Builtin> SequenceFilters();
std::span<const Builtin> SelectionFilters();
std::span<const Builtin> ValueFilters();
std::span<const Builtin> HtmlFilters();
std::span<const Builtin> LayoutFilters();

// For filters that are generators in jinja2: gives the values that `fill` produced, then its error to whoever
// reads beyond them.
template <typename Fill>  // Status(std::vector<Value>* out)
StatusOr<Value> Lazily(Interpreter& in, Fill fill) {
  std::vector<Value> out;
  Status end = fill(&out);
  return in.MakeGenerator(std::move(out), std::move(end));
}

// The value itself when `attribute` is none; else what "a.b.0" or an index reads of it. `fallback`, if given
// and not none, takes the place of every part that is undefined.
StatusOr<Value> ReadAttribute(Interpreter& in, const Value& value, const Value& attribute,
                              const Value* fallback = nullptr);
// For sort, unique and the like: strings in lower case unless the case matters.
Value CaseKey(const Value& value, bool case_sensitive);
// Stable, by Compare over `keys`; gives the order of the positions.
StatusOr<std::vector<size_t>> SortedOrder(Interpreter& in, const std::vector<Value>& keys, bool reverse);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_FILTERS_H_
