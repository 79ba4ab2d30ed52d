// Methods of lists and dicts. Those that would change their receiver do not exist: see access.cc.
#include "model/chat/jinja/methods.h"

#include <algorithm>

#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {
namespace {

template <List::Flavour kPart>
StatusOr<Value> View(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  std::vector<Value> out;
  RETURN_IF_ERROR(
      in.budget().Elements(self.dict()->items().size() * (kPart == List::Flavour::kItems ? 8 : 1)));
  for (const auto& [key, value] : self.dict()->items()) {
    if (kPart == List::Flavour::kItems) {
      ASSIGN_OR_RETURN(Value pair, List::Make({key, value}, in.limits(), List::Flavour::kTuple));
      out.push_back(std::move(pair));
    } else {
      out.push_back(kPart == List::Flavour::kKeys ? key : value);
    }
  }
  return List::Make(std::move(out), in.limits(), kPart);
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
  const std::vector<Value>& items = self.list()->items;
  const auto size = static_cast<int64_t>(items.size());
  int64_t bounds[2] = {0, size};
  if (!kCount) {
    ASSIGN_OR_RETURN(bounds[0], args.NextInt("start", 0));
    ASSIGN_OR_RETURN(bounds[1], args.NextInt("stop", size));
  }
  RETURN_IF_ERROR(args.Done());
  for (int64_t& bound : bounds) bound = std::clamp<int64_t>(bound < 0 ? bound + size : bound, 0, size);
  int64_t n = 0;
  for (auto i = static_cast<size_t>(bounds[0]); i < static_cast<size_t>(bounds[1]); ++i) {
    ASSIGN_OR_RETURN(const bool same, Equals(items[i], wanted, &in.budget()));
    if (same && !kCount) return Value(static_cast<int64_t>(i));
    n += same;
  }
  if (!kCount) return absl::InvalidArgumentError("the value is not in the list");
  return Value(n);
}

StatusOr<Value> CyclerNext(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  Cycler& cycler = **self.As<std::shared_ptr<Cycler>>();
  Value current = cycler.items[cycler.position];
  cycler.position = (cycler.position + 1) % cycler.items.size();
  return current;
}

StatusOr<Value> CyclerReset(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  (*self.As<std::shared_ptr<Cycler>>())->position = 0;
  return Value();
}

constexpr Builtin kDictMethods[] = {
    {"items", View<List::Flavour::kItems>},
    {"keys", View<List::Flavour::kKeys>},
    {"values", View<List::Flavour::kValues>},
    {"get", Get},
    {"copy", CopySelf},
};

constexpr Builtin kListMethods[] = {{"index", IndexOf<false>}, {"count", IndexOf<true>}, {"copy", CopySelf}};
constexpr Builtin kTupleMethods[] = {{"index", IndexOf<false>}, {"count", IndexOf<true>}};  // of ranges too
constexpr Builtin kCyclerMethods[] = {{"next", CyclerNext}, {"reset", CyclerReset}};

}  // namespace

const Builtin* FindMethod(const Value& self, std::string_view name) {
  std::span<const Builtin> methods;
  if (self.text()) methods = StringMethods();
  if (self.dict()) methods = kDictMethods;
  if (const List* list = self.list()) {
    if (list->flavour == List::Flavour::kList) methods = kListMethods;
    if (list->flavour == List::Flavour::kTuple || list->flavour == List::Flavour::kRange)
      methods = kTupleMethods;
  }
  if (const auto* cycler = self.As<std::shared_ptr<Cycler>>(); cycler && !(*cycler)->is_joiner) {
    methods = kCyclerMethods;
  }
  for (const Builtin& method : methods) {
    if (method.name == name) return &method;
  }
  return nullptr;
}

}  // namespace coterie::jinja
