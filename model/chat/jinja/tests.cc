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
  return v.text() || v.dict() || v.is_undefined() || (v.list() && v.list()->is_sequence());
}
bool IsIterable(const Value& v) {
  return v.text() || v.dict() || v.list() || v.is_undefined() || v.As<std::shared_ptr<Generator>>() ||
         v.As<std::shared_ptr<Loop>>();
}
bool IsANumber(const Value& v) {
  double unused;
  return v.ToDouble(&unused);
}
bool IsInteger(const Value& v) { return v.As<int64_t>() || v.As<Value::BigInteger>(); }
bool IsFloat(const Value& v) { return v.As<double>() != nullptr; }
bool IsBoolean(const Value& v) { return v.As<bool>() != nullptr; }
bool IsTrueItself(const Value& v) { return v.As<bool>() && *v.As<bool>(); }
bool IsFalseItself(const Value& v) { return v.As<bool>() && !*v.As<bool>(); }
bool IsCallable(const Value& v) {
  // An undefined value can be called: to say what is undefined.
  const auto* cycler = v.As<std::shared_ptr<Cycler>>();
  return v.As<std::shared_ptr<const Callable>>() || v.is_undefined() || v.As<std::shared_ptr<Loop>>() ||
         (cycler && (*cycler)->is_joiner);
}
// What is markup already (the test's name; `escape` would leave it alone).
bool IsEscaped(const Value& v) { return v.text() && v.text()->markup(); }

// Whether the remainder of the division by `divisor` is `wanted`, whatever has a remainder.
StatusOr<Value> RemainderIs(Interpreter& in, const Value& self, const Value& divisor, int64_t wanted) {
  ASSIGN_OR_RETURN(const Value rest, Arithmetic(in, BinaryExpr::Op::kModulo, self, divisor));
  ASSIGN_OR_RETURN(const bool same, Equals(rest, Value(wanted), &in.budget()));
  return Value(same);
}

template <int kRemainder>
StatusOr<Value> Odd(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  return RemainderIs(in, self, Value(int64_t{2}), kRemainder);
}

StatusOr<Value> DivisibleBy(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value divisor, args.Need("num"));
  RETURN_IF_ERROR(args.Done());
  return RemainderIs(in, self, divisor, 0);
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

// Whether a filter, or a test, of this name exists.
template <const Builtin* (*kFind)(std::string_view)>
StatusOr<Value> Named(Interpreter&, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  if (!IsHashable(self)) return absl::InvalidArgumentError("a list or a dict is no name");
  return Value(self.text() != nullptr && kFind(self.text()->bytes()) != nullptr);
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
    {"escaped", Simple<IsEscaped>},
    {"filter", Named<FindFilter>},
    {"test", Named<FindTest>},
    {"odd", Odd<1>},
    {"even", Odd<0>},
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
