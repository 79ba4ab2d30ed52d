#include "model/chat/jinja/loop_attributes.h"

namespace coterie::jinja {
namespace {

StatusOr<Value> Cycle(Interpreter& in, const Value& self, Args& args) {
  const std::vector<Value> values = args.TakeRest();
  RETURN_IF_ERROR(args.Done());
  if (values.empty()) return absl::InvalidArgumentError("needs at least one value");
  return values[(*self.As<std::shared_ptr<Loop>>())->index0 % values.size()];
}

// True when the value differs from that of the last call.
StatusOr<Value> Changed(Interpreter& in, const Value& self, Args& args) {
  Loop& loop = **self.As<std::shared_ptr<Loop>>();
  std::vector<Value> values = args.TakeRest();
  RETURN_IF_ERROR(args.Done());
  for (const Value& value : values) {
    // A loop that remembered itself would never be freed; lists can hold one too.
    if (!value.text() && !value.is_none() && !value.As<int64_t>() && !value.As<bool>() &&
        !value.As<double>()) {
      return absl::InvalidArgumentError("compares strings, numbers and none only");
    }
  }
  ASSIGN_OR_RETURN(Value now, List::Make(std::move(values), in.limits()));
  if (loop.has_changed) {
    ASSIGN_OR_RETURN(const bool same, Equals(loop.last_changed, now, &in.budget()));
    if (same) return Value(false);
  }
  loop.has_changed = true;
  loop.last_changed = std::move(now);
  return Value(true);
}

Value Integer(size_t n) { return Value(static_cast<int64_t>(n)); }

Value Method(const Builtin* method, const std::shared_ptr<Loop>& loop) {
  auto callable = std::make_shared<Callable>();
  callable->builtin = method;
  callable->self = Value(loop);
  return Value(std::shared_ptr<const Callable>(std::move(callable)));
}

}  // namespace

std::optional<Value> LoopAttribute(const std::shared_ptr<Loop>& loop, std::string_view name) {
  const size_t n = loop->items().size();
  const size_t i = loop->index0;
  if (name == "index") return Integer(i + 1);
  if (name == "index0") return Integer(i);
  if (name == "revindex") return Integer(n - i);
  if (name == "revindex0") return Integer(n - i - 1);
  if (name == "first") return Value(i == 0);
  if (name == "last") return Value(i + 1 == n);
  if (name == "length") return Integer(n);
  if (name == "depth") return Value(loop->depth0 + 1);
  if (name == "depth0") return Value(loop->depth0);
  if (name == "previtem") {
    return i > 0 ? loop->items()[i - 1] : Value::UndefinedBecause("there is no previous item");
  }
  if (name == "nextitem")
    return i + 1 < n ? loop->items()[i + 1] : Value::UndefinedBecause("there is no next item");
  static constexpr Builtin kCycle = {"cycle", Cycle};
  static constexpr Builtin kChanged = {"changed", Changed};
  if (name == "cycle") return Method(&kCycle, loop);
  if (name == "changed") return Method(&kChanged, loop);
  return std::nullopt;
}

}  // namespace coterie::jinja
