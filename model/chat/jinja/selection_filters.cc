// map, select, reject and their kin: filters that apply a filter or a test to every element. As in jinja2
// they give generators, and of anything false (none, undefined, '', 0) an empty one, whatever their
// arguments.
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {
namespace {

Status MapAttribute(Interpreter& in, const List& items, Args& args, std::vector<Value>* out) {
  ASSIGN_OR_RETURN(const Value attribute, args.NeedNamed("attribute"));
  const Value* fallback = args.NextNamed("default");
  RETURN_IF_ERROR(args.Done());
  for (const Value& item : items.items) {
    RETURN_IF_ERROR(in.budget().Step());
    ASSIGN_OR_RETURN(Value value, ReadAttribute(in, item, attribute, fallback));
    out->push_back(std::move(value));
  }
  return absl::OkStatus();
}

Status MapFilter(Interpreter& in, const List& items, Args& args, std::vector<Value>* out) {
  ASSIGN_OR_RETURN(const Text name, args.NextText("filter", ""));
  const Builtin* filter = FindFilter(name.bytes());
  if (!filter) return Unknown("filter", name.bytes());
  const std::vector<Value> rest = args.TakeRest();
  for (const Value& item : items.items) {
    RETURN_IF_ERROR(in.budget().Step());
    Args inner(rest, args.keyword());
    StatusOr<Value> value = filter->call(in, item, inner);
    if (!value.ok()) return in.Named("filter", filter->name, value.status());
    out->push_back(*std::move(value));
  }
  return absl::OkStatus();
}

StatusOr<Value> Map(Interpreter& in, const Value& self, Args& args) {
  return Lazily(in, [&](std::vector<Value>* out) -> Status {
    if (!IsTrue(self)) return absl::OkStatus();
    ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
    RETURN_IF_ERROR(in.budget().Elements(items.list()->items.size()));
    const bool by_attribute = args.n_left() == 0;
    return by_attribute ? MapAttribute(in, *items.list(), args, out)
                        : MapFilter(in, *items.list(), args, out);
  });
}

// kWanted: keep what passes (select) or what fails (reject). kByAttribute: the first argument names what is
// tested.
template <bool kWanted, bool kByAttribute>
Status Choose(Interpreter& in, const Value& self, Args& args, std::vector<Value>* kept) {
  Value attribute;
  if (kByAttribute) {
    if (args.n_left() == 0) return absl::InvalidArgumentError("the name of an attribute is missing");
    ASSIGN_OR_RETURN(attribute, args.Need("attribute"));
  }
  const Builtin* test = nullptr;
  if (args.n_left() > 0) {
    ASSIGN_OR_RETURN(const Text name, args.NextText("test", ""));
    test = FindTest(name.bytes());
    if (!test) return Unknown("test", name.bytes());
  }
  const std::vector<Value> rest = args.TakeRest();
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
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
    kept->push_back(item);
  }
  return absl::OkStatus();
}

template <bool kWanted, bool kByAttribute>
StatusOr<Value> ChooseLazily(Interpreter& in, const Value& self, Args& args) {
  return Lazily(in, [&](std::vector<Value>* out) {
    return IsTrue(self) ? Choose<kWanted, kByAttribute>(in, self, args, out) : absl::OkStatus();
  });
}

constexpr Builtin kSelectionFilters[] = {
    {"map", Map},
    {"select", ChooseLazily<true, false>},
    {"reject", ChooseLazily<false, false>},
    {"selectattr", ChooseLazily<true, true>},
    {"rejectattr", ChooseLazily<false, true>},
};

}  // namespace

std::span<const Builtin> SelectionFilters() { return kSelectionFilters; }

}  // namespace coterie::jinja
