// Reading into values: attributes, items, iteration.
#include <algorithm>
#include <optional>

#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/loop_attributes.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

// As jinja2 words it: "'dict object' has no attribute 'x'".
Value Missing(const Value& object, std::string_view name) {
  const std::string type = object.is_none() ? "None" : absl::StrCat(ToAbsl(object.TypeName()), " object");
  return Value::UndefinedBecause(absl::StrCat("'", type, "' has no attribute '", ToAbsl(name), "'"));
}

StatusOr<Value> UseUndefined(const Value& object) {
  return absl::InvalidArgumentError(*object.As<Value::Undefined>()->reason);
}

Value BoundMethod(const Builtin* method, const Value& self) {
  auto callable = std::make_shared<Callable>();
  callable->builtin = method;
  callable->self = self;
  return Value(std::shared_ptr<const Callable>(std::move(callable)));
}

// Lists and dicts are immutable: jinja2's sandbox hides the methods that would change them.
bool WouldChange(const Value& object, std::string_view name) {
  static constexpr std::string_view kOfLists[] = {"append", "clear", "pop",    "reverse",
                                                  "insert", "sort",  "extend", "remove"};
  static constexpr std::string_view kOfDicts[] = {"clear", "pop", "popitem", "setdefault", "update"};
  const bool list = object.list() && object.list()->flavour == List::Flavour::kList;
  return (list && std::find(std::begin(kOfLists), std::end(kOfLists), name) != std::end(kOfLists)) ||
         (object.dict() && std::find(std::begin(kOfDicts), std::end(kOfDicts), name) != std::end(kOfDicts));
}

Value Immutable(const Value& object, std::string_view name) {
  return Value::UndefinedBecause(
      absl::StrCat("'", ToAbsl(name), "' would change a ", ToAbsl(object.TypeName()),
                   "; lists and dicts of a template are immutable (use '+' or a namespace)"));
}

std::optional<Value> MacroAttribute(const MacroDefinition& macro, std::string_view name) {
  if (name == "name") return macro.name.empty() ? Value() : Value(Text::Trusted(macro.name));
  if (name == "catch_kwargs") return Value(macro.uses_kwargs);
  if (name == "catch_varargs") return Value(macro.uses_varargs);
  if (name == "caller") return Value(macro.uses_caller);
  return std::nullopt;
}

// Element `i` of a list, tuple or range, or a character of a string; nullopt beyond the ends.
std::optional<Value> ElementAt(const Value& object, int64_t i) {
  if (const List* list = object.list(); list && list->is_sequence()) {
    const auto n = static_cast<int64_t>(list->items.size());
    if (i < 0) i += n;
    if (i >= 0 && i < n) return list->items[static_cast<size_t>(i)];
  }
  if (const Text* text = object.text()) {
    const auto n = static_cast<int64_t>(CountChars(text->bytes()));
    if (i < 0) i += n;
    if (i >= 0 && i < n) {
      const size_t begin = ByteOfChar(text->bytes(), static_cast<size_t>(i));
      size_t end = begin;
      NextChar(text->bytes(), &end);
      return Value(text->Slice(begin, end));
    }
  }
  return std::nullopt;
}

}  // namespace

StatusOr<Value> Interpreter::Attribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) return UseUndefined(object);
  if (const Builtin* method = FindMethod(object, name)) return BoundMethod(method, object);
  if (WouldChange(object, name)) return Immutable(object, name);
  if (const Dict* dict = object.dict()) {
    if (const Value* value = dict->Find(name)) return *value;
  } else if (const List* list = object.list(); list && list->is_group) {
    if (name == "grouper" || name == "list") return list->items[name == "list" ? 1 : 0];
  } else if (auto* const* ns = object.As<Namespace*>()) {
    if (const Value* value = (*ns)->attributes.Find(name)) return *value;
  } else if (const auto* loop = object.As<std::shared_ptr<Loop>>()) {
    if (auto value = LoopAttribute(*loop, name)) return *std::move(value);
  } else if (const auto* callable = object.As<std::shared_ptr<const Callable>>()) {
    if ((*callable)->macro) {
      if (auto value = MacroAttribute(*(*callable)->macro, name)) return *std::move(value);
    }
  } else if (const auto* cycler = object.As<std::shared_ptr<Cycler>>()) {
    if (name == "current" && !(*cycler)->is_joiner) return (*cycler)->items[(*cycler)->position];
  }
  return Missing(object, name);
}

StatusOr<Value> Interpreter::Item(const Value& object, const Value& index) {
  if (object.is_undefined()) return UseUndefined(object);
  if (const Dict* dict = object.dict()) {
    if (const Value* value = dict->Find(index)) return *value;
  }
  int64_t i;
  if (index.ToInt(&i)) {
    if (object.text()) RETURN_IF_ERROR(budget_.Step(1 + object.text()->size() / 256));
    if (std::optional<Value> element = ElementAt(object, i)) return *std::move(element);
    return Value::UndefinedBecause(absl::StrCat(ToAbsl(object.TypeName()), " object has no element ", i));
  }
  if (const Text* name = index.text()) {
    if (object.dict()) {  // not a key: perhaps a method
      if (const Builtin* method = FindMethod(object, name->bytes())) return BoundMethod(method, object);
      if (WouldChange(object, name->bytes())) return Immutable(object, name->bytes());
      return Missing(object, name->bytes());
    }
    return Attribute(object, name->bytes());
  }
  return Value::UndefinedBecause(absl::StrCat(ToAbsl(object.TypeName()), " object has no such element"));
}

StatusOr<Value> Interpreter::Iterate(const Value& value) {
  if (value.list()) return value;
  std::vector<Value> items;
  if (const auto* held = value.As<std::shared_ptr<Generator>>()) {
    Generator& generator = **held;
    RETURN_IF_ERROR(budget_.Elements(generator.items.size() - generator.next));
    items.assign(generator.items.begin() + static_cast<ptrdiff_t>(generator.next), generator.items.end());
    generator.next = generator.items.size();
    RETURN_IF_ERROR(generator.end);
    return List::Make(std::move(items), limits());
  }
  if (const Dict* dict = value.dict()) {
    RETURN_IF_ERROR(budget_.Elements(dict->items().size()));
    for (const auto& [key, unused] : dict->items()) items.push_back(key);
  } else if (const Text* text = value.text()) {
    // Each character becomes a value of some 100 bytes.
    RETURN_IF_ERROR(budget_.Elements(text->size() * 4));
    for (size_t i = 0; i < text->size();) {
      const size_t begin = i;
      NextChar(text->bytes(), &i);
      items.emplace_back(
          text->Slice(begin, i).WithMarkup(false));  // the characters of markup are plain, in Python too
    }
  } else if (!value.is_undefined()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " is not iterable"));
  }
  return List::Make(std::move(items), limits());
}

}  // namespace coterie::jinja
