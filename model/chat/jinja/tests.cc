// What may stand behind `is`.
#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/builtins.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

template <bool (*kHolds)(const Value&)>
StatusOr<Value> Simple(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  return Value(kHolds(self));
}

bool IsDefined(const Value& v) { return !v.is_undefined(); }
bool IsUndefined(const Value& v) { return v.is_undefined(); }
bool IsNone(const Value& v) { return v.is_none(); }
bool IsString(const Value& v) { return v.text() != nullptr; }
bool IsMapping(const Value& v) { return v.dict() != nullptr; }
bool IsSequence(const Value& v) {
  return v.text() || v.dict() || v.is_undefined() ||
         (v.list() && v.list()->flavour != List::Flavour::kGenerator);
}
bool IsIterable(const Value& v) { return v.text() || v.dict() || v.list() || v.is_undefined(); }
bool IsANumber(const Value& v) { return v.As<bool>() || v.As<int64_t>() || v.As<double>(); }
bool IsInteger(const Value& v) { return v.As<int64_t>() != nullptr; }
bool IsFloat(const Value& v) { return v.As<double>() != nullptr; }
bool IsBoolean(const Value& v) { return v.As<bool>() != nullptr; }
bool IsTrueItself(const Value& v) { return v.As<bool>() && *v.As<bool>(); }
bool IsFalseItself(const Value& v) { return v.As<bool>() && !*v.As<bool>(); }
bool IsCallable(const Value& v) { return v.As<std::shared_ptr<const Callable>>() != nullptr; }

StatusOr<int64_t> Remainder(const Value& self, int64_t divisor) {
  int64_t n;
  if (!self.ToInt(&n)) {
    return absl::InvalidArgumentError(absl::StrCat("needs an integer, got ", ToAbsl(self.TypeName())));
  }
  if (divisor == 0) return absl::InvalidArgumentError("division by zero");
  return divisor == -1 ? 0 : n % divisor;
}

template <bool kWanted>
StatusOr<Value> Odd(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const int64_t rest, Remainder(self, 2));
  return Value((rest != 0) == kWanted);
}

StatusOr<Value> DivisibleBy(Interpreter&, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const int64_t divisor, args.NextInt("num", 0));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const int64_t rest, Remainder(self, divisor));
  return Value(rest == 0);
}

template <bool (*kGood)(char32_t), bool (*kBad)(char32_t)>
StatusOr<Value> AllCased(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Text text, ToText(self, &in.budget()));
  bool any = false;
  for (size_t i = 0; i < text.size();) {
    const char32_t c = NextChar(text.bytes(), &i);
    if (kBad(c)) return Value(false);
    any |= kGood(c);
  }
  return Value(any);
}

template <bool kWanted>
StatusOr<Value> Same(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value other, args.Need("other"));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const bool same, Equals(self, other, &in.budget()));
  return Value(same == kWanted);
}

// Identity, of which only none, booleans and the like make sense here.
StatusOr<Value> SameAs(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value other, args.Need("other"));
  RETURN_IF_ERROR(args.Done());
  if (self.TypeName() != other.TypeName()) return Value(false);
  ASSIGN_OR_RETURN(const bool same, Equals(self, other, &in.budget()));
  return Value(same);
}

template <bool kLess, bool kOrEqual>
StatusOr<Value> Order(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value other, args.Need("other"));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const int order, Compare(self, other, &in.budget()));
  return Value((order == 0 && kOrEqual) || order == (kLess ? -1 : 1));
}

StatusOr<Value> In(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value container, args.Need("seq"));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const bool contained, Contains(in, container, self));
  return Value(contained);
}

constexpr Builtin kTests[] = {
    {"defined", Simple<IsDefined>},
    {"undefined", Simple<IsUndefined>},
    {"none", Simple<IsNone>},
    {"string", Simple<IsString>},
    {"mapping", Simple<IsMapping>},
    {"sequence", Simple<IsSequence>},
    {"iterable", Simple<IsIterable>},
    {"number", Simple<IsANumber>},
    {"integer", Simple<IsInteger>},
    {"float", Simple<IsFloat>},
    {"boolean", Simple<IsBoolean>},
    {"true", Simple<IsTrueItself>},
    {"false", Simple<IsFalseItself>},
    {"callable", Simple<IsCallable>},
    {"odd", Odd<true>},
    {"even", Odd<false>},
    {"divisibleby", DivisibleBy},
    {"upper", AllCased<IsUpper, IsLower>},
    {"lower", AllCased<IsLower, IsUpper>},
    {"equalto", Same<true>},
    {"eq", Same<true>},
    {"==", Same<true>},
    {"ne", Same<false>},
    {"!=", Same<false>},
    {"sameas", SameAs},
    {"lt", Order<true, false>},
    {"lessthan", Order<true, false>},
    {"<", Order<true, false>},
    {"le", Order<true, true>},
    {"<=", Order<true, true>},
    {"gt", Order<false, false>},
    {"greaterthan", Order<false, false>},
    {">", Order<false, false>},
    {"ge", Order<false, true>},
    {">=", Order<false, true>},
    {"in", In},
};

}  // namespace

const Builtin* FindTest(std::string_view name) {
  for (const Builtin& test : kTests) {
    if (test.name == name) return &test;
  }
  return nullptr;
}

}  // namespace coterie::jinja
