// What each expression gives.
#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {

// Every node costs a step and puts its line before an error without one.
#define EVAL(lhs, expr)                                                                         \
  if (const Status step = in.budget().Step(); !step.ok()) return in.AtLine((expr)->line, step); \
  ASSIGN_OR_RETURN(lhs, (expr)->Eval(in))

StatusOr<Value> ConstExpr::Eval(Interpreter&) const { return value; }

StatusOr<Value> NameExpr::Eval(Interpreter& in) const {
  size_t n_names = 0;  // that the look-up may walk over
  for (const Scope* scope = &in.scope(); scope; scope = scope->parent) n_names += scope->values.size();
  if (const Status step = in.budget().Step(n_names / 8); !step.ok()) return in.AtLine(line, step);
  if (const Value* value = in.scope().Find(name)) return *value;
  if (const Builtin* builtin = FindGlobal(name)) {
    auto callable = std::make_shared<Callable>();
    callable->builtin = builtin;
    return Value(std::shared_ptr<const Callable>(std::move(callable)));
  }
  return Value::UndefinedBecause(absl::StrCat("'", name, "' is undefined"));
}

StatusOr<Value> ListExpr::Eval(Interpreter& in) const {
  std::vector<Value> values;
  RETURN_IF_ERROR(in.budget().Elements(items.size()));
  for (const ExprPtr& item : items) {
    EVAL(Value value, item);
    values.push_back(std::move(value));
  }
  return List::Make(std::move(values), in.limits(), is_tuple ? List::Flavour::kTuple : List::Flavour::kList);
}

StatusOr<Value> DictExpr::Eval(Interpreter& in) const {
  DictBuilder dict;
  RETURN_IF_ERROR(in.budget().Elements(items.size() * 8));
  for (const auto& [key, item] : items) {
    EVAL(Value name, key);
    EVAL(Value value, item);
    RETURN_IF_ERROR(in.AtLine(line, dict.Set(std::move(name), std::move(value))));
  }
  return dict.Build(in.limits());
}

StatusOr<Value> AttributeExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, object);
  StatusOr<Value> result = in.Attribute(value, name);
  return result.ok() ? result : in.AtLine(line, result.status());
}

StatusOr<Value> ItemExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, object);
  EVAL(const Value key, index);
  StatusOr<Value> result = in.Item(value, key);
  return result.ok() ? result : in.AtLine(line, result.status());
}

StatusOr<Value> SliceExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, object);
  Value bounds[3];
  const ExprPtr* parts[] = {&begin, &end, &step};
  for (int i = 0; i < 3; ++i) {
    if (!*parts[i]) continue;
    EVAL(bounds[i], *parts[i]);
  }
  StatusOr<Value> result = Slice(in, value, bounds[0], bounds[1], bounds[2]);
  return result.ok() ? result : in.AtLine(line, result.status());
}

StatusOr<Value> CallExpr::Eval(Interpreter& in) const { return EvalWithCaller(in, nullptr); }

namespace {

// How the call reads in a message: "raise_exception", "strip".
std::string_view NameOf(const Expr& callee) {
  if (const auto* name = dynamic_cast<const NameExpr*>(&callee)) return name->name;
  if (const auto* attribute = dynamic_cast<const AttributeExpr*>(&callee)) return attribute->name;
  return "call";
}

}  // namespace

StatusOr<Value> CallExpr::EvalWithCaller(Interpreter& in, const Value* caller) const {
  EVAL(const Value function, callee);
  ASSIGN_OR_RETURN(Args args, in.EvalArguments(arguments));
  if (caller) args.AddKeyword("caller", *caller);
  StatusOr<Value> result = in.Call(function, std::move(args), NameOf(*callee));
  return result.ok() ? result : in.AtLine(line, result.status());
}

StatusOr<Value> FilterExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, input);
  return Apply(in, value);
}

StatusOr<Value> FilterExpr::EvalOver(Interpreter& in, const Value& body) const {
  if (!input) return Apply(in, body);
  ASSIGN_OR_RETURN(const Value value, static_cast<const FilterExpr&>(*input).EvalOver(in, body));
  return Apply(in, value);
}

StatusOr<Value> FilterExpr::Apply(Interpreter& in, const Value& value) const {
  ASSIGN_OR_RETURN(Args args, in.EvalArguments(arguments));
  if (!filter) return in.AtLine(line, Unknown("filter", name));
  StatusOr<Value> result = filter->call(in, value, args);
  if (result.ok()) return result;
  return in.AtLine(line, in.Named("filter", filter->name, result.status()));
}

StatusOr<Value> TestExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, input);
  ASSIGN_OR_RETURN(Args args, in.EvalArguments(arguments));
  if (!test) return in.AtLine(line, Unknown("test", name));
  StatusOr<Value> result = test->call(in, value, args);
  if (result.ok()) return result;
  return in.AtLine(line, in.Named("test", test->name, result.status()));
}

StatusOr<Value> UnaryExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, operand);
  if (op == Op::kNot) return Value(!IsTrue(value));
  if (value.As<Value::BigInteger>() && op == Op::kPlus) return value;
  if (const double* number = value.As<double>()) return Value(op == Op::kMinus ? -*number : *number);
  int64_t integer;
  if (!value.ToInt(&integer)) {
    if (const auto* undefined = value.As<Value::Undefined>()) {
      return in.AtLine(line, absl::InvalidArgumentError(*undefined->reason));
    }
    return in.AtLine(line, absl::InvalidArgumentError(absl::StrCat("a sign does not go with a value of type ",
                                                                   ToAbsl(value.TypeName()))));
  }
  if (op == Op::kPlus) return Value(integer);
  StatusOr<Value> result = Arithmetic(in, BinaryExpr::Op::kSubtract, Value(int64_t{0}), value);
  return result.ok() ? result : in.AtLine(line, result.status());
}

StatusOr<Value> BinaryExpr::Eval(Interpreter& in) const {
  EVAL(const Value a, left);
  EVAL(const Value b, right);
  StatusOr<Value> result = Arithmetic(in, op, a, b);
  return result.ok() ? result : in.AtLine(line, result.status());
}

StatusOr<Value> LogicExpr::Eval(Interpreter& in) const {
  EVAL(Value value, left);
  if (IsTrue(value) != is_and) return value;
  EVAL(Value other, right);
  return other;
}

namespace {

StatusOr<bool> Holds(Interpreter& in, CompareExpr::Op op, const Value& a, const Value& b) {
  using Op = CompareExpr::Op;
  if (op == Op::kEqual || op == Op::kNotEqual) {
    ASSIGN_OR_RETURN(const bool same, Equals(a, b, &in.budget()));
    return same == (op == Op::kEqual);
  }
  if (op == Op::kIn || op == Op::kNotIn) {
    ASSIGN_OR_RETURN(const bool contained, Contains(in, b, a));
    return contained == (op == Op::kIn);
  }
  ASSIGN_OR_RETURN(const int order, Compare(a, b, &in.budget()));
  if (order == kUnordered) return false;
  return op == Op::kLess        ? order < 0
         : op == Op::kLessEqual ? order <= 0
         : op == Op::kGreater   ? order > 0
                                : order >= 0;
}

}  // namespace

StatusOr<Value> CompareExpr::Eval(Interpreter& in) const {
  EVAL(Value left, first);
  for (const auto& [op, operand] : rest) {
    EVAL(Value right, operand);
    const StatusOr<bool> holds = Holds(in, op, left, right);
    if (!holds.ok()) return in.AtLine(line, holds.status());
    if (!*holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

StatusOr<Value> ConcatExpr::Eval(Interpreter& in) const {
  Text out;
  for (const ExprPtr& part : parts) {
    EVAL(const Value value, part);
    StatusOr<Text> text = ToText(value, &in.budget());
    if (!text.ok()) return in.AtLine(line, text.status());
    out.Append(*text);
  }
  return Value(std::move(out));
}

StatusOr<Value> ConditionalExpr::Eval(Interpreter& in) const {
  EVAL(const Value value, condition);
  if (IsTrue(value)) return then->Eval(in);
  if (otherwise) return otherwise->Eval(in);
  return Value::UndefinedBecause("the inline if has no else and its condition is false");
}

#undef EVAL

}  // namespace coterie::jinja
