// Reading into values: attributes, items, iteration.
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

}  // namespace

StatusOr<Value> Interpreter::Attribute(const Value& object, std::string_view name) {
  if (object.is_undefined()) return UseUndefined(object);
  if (const Builtin* method = FindMethod(object, name)) return BoundMethod(method, object);
  if (const Dict* dict = object.dict()) {
    if (const Value* value = dict->Find(name)) return *value;
  } else if (auto* const* ns = object.As<Namespace*>()) {
    if (const Value* value = (*ns)->attributes.Find(name)) return *value;
  } else if (const auto* loop = object.As<std::shared_ptr<Loop>>()) {
    if (auto value = LoopAttribute(*loop, name)) return *std::move(value);
  } else if (const auto* callable = object.As<std::shared_ptr<const Callable>>()) {
    if (name == "name" && (*callable)->macro) return Value(Text::Trusted((*callable)->macro->name));
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
    const List* list = object.list();
    if (list && list->flavour != List::Flavour::kGenerator) {
      const auto n = static_cast<int64_t>(list->items.size());
      if (i < 0) i += n;
      if (i >= 0 && i < n) return list->items[static_cast<size_t>(i)];
    }
    if (const Text* text = object.text()) {
      RETURN_IF_ERROR(budget_.Step(1 + text->size() / 256));
      const auto n = static_cast<int64_t>(CountChars(text->bytes()));
      if (i < 0) i += n;
      if (i >= 0 && i < n) {
        const size_t begin = ByteOfChar(text->bytes(), static_cast<size_t>(i));
        size_t end = begin;
        NextChar(text->bytes(), &end);
        return Value(text->Slice(begin, end));
      }
    }
    return Value::UndefinedBecause(absl::StrCat(ToAbsl(object.TypeName()), " object has no element ", i));
  }
  if (const Text* name = index.text()) {
    if (object.dict()) {  // not a key: perhaps a method
      if (const Builtin* method = FindMethod(object, name->bytes())) return BoundMethod(method, object);
      return Missing(object, name->bytes());
    }
    return Attribute(object, name->bytes());
  }
  return Value::UndefinedBecause(absl::StrCat(ToAbsl(object.TypeName()), " object has no such element"));
}

StatusOr<Value> Interpreter::Iterate(const Value& value) {
  if (value.list()) return value;
  std::vector<Value> items;
  if (const Dict* dict = value.dict()) {
    RETURN_IF_ERROR(budget_.Elements(dict->items().size()));
    for (const auto& [key, unused] : dict->items()) items.push_back(key);
  } else if (const Text* text = value.text()) {
    // Each character becomes a value of some 100 bytes.
    RETURN_IF_ERROR(budget_.Elements(text->size() * 4));
    for (size_t i = 0; i < text->size();) {
      const size_t begin = i;
      NextChar(text->bytes(), &i);
      items.emplace_back(text->Slice(begin, i));
    }
  } else if (!value.is_undefined()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " is not iterable"));
  }
  return List::Make(std::move(items), limits());
}

}  // namespace coterie::jinja
