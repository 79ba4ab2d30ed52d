// map, select, reject and their kin: filters that apply a filter or a test to every element.
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {
namespace {

StatusOr<Value> Map(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  std::vector<Value> out;
  RETURN_IF_ERROR(in.budget().Elements(items.list()->items.size()));
  if (args.n_left() == 0) {
    ASSIGN_OR_RETURN(const Value attribute, args.NeedNamed("attribute"));
    const Value* fallback = args.NextNamed("default");
    RETURN_IF_ERROR(args.Done());
    for (const Value& item : items.list()->items) {
      RETURN_IF_ERROR(in.budget().Step());
      ASSIGN_OR_RETURN(Value value, ReadAttribute(in, item, attribute));
      if (value.is_undefined() && fallback != nullptr) value = *fallback;
      out.push_back(std::move(value));
    }
    return List::Make(std::move(out), in.limits(), List::Flavour::kGenerator);
  }
  ASSIGN_OR_RETURN(const Text name, args.NextText("filter", ""));
  const Builtin* filter = FindFilter(name.bytes());
  if (!filter) {
    return absl::UnimplementedError(absl::StrCat("the filter '", ToAbsl(name.bytes()), "' is not supported"));
  }
  const std::vector<Value> rest = args.TakeRest();
  for (const Value& item : items.list()->items) {
    RETURN_IF_ERROR(in.budget().Step());
    Args inner(rest, args.keyword());
    StatusOr<Value> value = filter->call(in, item, inner);
    if (!value.ok()) return in.Named("filter", filter->name, value.status());
    out.push_back(*std::move(value));
  }
  return List::Make(std::move(out), in.limits(), List::Flavour::kGenerator);
}

// kWanted: keep what passes (select) or what fails (reject). kByAttribute: the first argument names what is
// tested.
template <bool kWanted, bool kByAttribute>
StatusOr<Value> Choose(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  Value attribute;
  if (kByAttribute) {
    ASSIGN_OR_RETURN(attribute, args.Need("attribute"));
  }
  const Builtin* test = nullptr;
  if (args.n_left() > 0) {
    ASSIGN_OR_RETURN(const Text name, args.NextText("test", ""));
    test = FindTest(name.bytes());
    if (!test) {
      return absl::UnimplementedError(absl::StrCat("the test '", ToAbsl(name.bytes()), "' is not supported"));
    }
  }
  const std::vector<Value> rest = args.TakeRest();
  std::vector<Value> kept;
  for (const Value& item : items.list()->items) {
    RETURN_IF_ERROR(in.budget().Step());
    ASSIGN_OR_RETURN(Value tested, ReadAttribute(in, item, attribute));
    if (test) {
      Args inner(rest, args.keyword());
      StatusOr<Value> passes = test->call(in, tested, inner);
      if (!passes.ok()) return in.Named("test", test->name, passes.status());
      tested = *std::move(passes);
    }
    if (IsTrue(tested) != kWanted) continue;
    RETURN_IF_ERROR(in.budget().Elements(1));
    kept.push_back(item);
  }
  return List::Make(std::move(kept), in.limits(), List::Flavour::kGenerator);
}

constexpr Builtin kSelectionFilters[] = {
    {"map", Map},
    {"select", Choose<true, false>},
    {"reject", Choose<false, false>},
    {"selectattr", Choose<true, true>},
    {"rejectattr", Choose<false, true>},
};

}  // namespace

std::span<const Builtin> SelectionFilters() { return kSelectionFilters; }

}  // namespace coterie::jinja
