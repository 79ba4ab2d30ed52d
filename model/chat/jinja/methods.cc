// Methods of lists and dicts. Those that would change their receiver exist to say so.
#include "model/chat/jinja/methods.h"

#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {
namespace {

StatusOr<Value> Immutable(Interpreter&, const Value& self, Args&) {
  return absl::InvalidArgumentError(
      absl::StrCat("would change a ", ToAbsl(self.TypeName()),
                   "; lists and dicts of a template are immutable (use '+' or a namespace)"));
}

enum class Part { kKeys, kValues, kItems };

template <Part kPart>
StatusOr<Value> View(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  std::vector<Value> out;
  RETURN_IF_ERROR(in.budget().Elements(self.dict()->items().size() * (kPart == Part::kItems ? 8 : 1)));
  for (const auto& [key, value] : self.dict()->items()) {
    if (kPart == Part::kItems) {
      ASSIGN_OR_RETURN(Value pair, List::Make({key, value}, in.limits(), List::Flavour::kTuple));
      out.push_back(std::move(pair));
    } else {
      out.push_back(kPart == Part::kKeys ? key : value);
    }
  }
  return List::Make(std::move(out), in.limits());
}

StatusOr<Value> Get(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value key, args.Need("key"));
  const Value* fallback = args.Next("default");
  RETURN_IF_ERROR(args.Done());
  if (const Value* value = self.dict()->Find(key)) return *value;
  return fallback ? *fallback : Value();
}

StatusOr<Value> CopySelf(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  return self;
}

template <bool kCount>
StatusOr<Value> IndexOf(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value wanted, args.Need("value"));
  RETURN_IF_ERROR(args.Done());
  int64_t n = 0;
  const std::vector<Value>& items = self.list()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(items[i], wanted, &in.budget()));
    if (same && !kCount) return Value(static_cast<int64_t>(i));
    n += same;
  }
  if (!kCount) return absl::InvalidArgumentError("the value is not in the list");
  return Value(n);
}

constexpr Builtin kDictMethods[] = {
    {"items", View<Part::kItems>},
    {"keys", View<Part::kKeys>},
    {"values", View<Part::kValues>},
    {"get", Get},
    {"copy", CopySelf},
    {"update", Immutable},
    {"pop", Immutable},
    {"popitem", Immutable},
    {"setdefault", Immutable},
    {"clear", Immutable},
};

constexpr Builtin kListMethods[] = {
    {"index", IndexOf<false>}, {"count", IndexOf<true>}, {"copy", CopySelf},   {"append", Immutable},
    {"extend", Immutable},     {"insert", Immutable},    {"pop", Immutable},   {"remove", Immutable},
    {"reverse", Immutable},    {"sort", Immutable},      {"clear", Immutable},
};

}  // namespace

const Builtin* FindMethod(const Value& self, std::string_view name) {
  std::span<const Builtin> methods;
  if (self.text()) methods = StringMethods();
  if (self.dict()) methods = kDictMethods;
  if (self.list() && self.list()->flavour != List::Flavour::kGenerator) methods = kListMethods;
  for (const Builtin& method : methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace coterie::jinja
