#include "model/chat/jinja/arithmetic.h"

#include <cmath>

#include "model/chat/jinja/text_functions.h"

namespace coterie::jinja {
namespace {

using Op = BinaryExpr::Op;

constexpr std::string_view kSpelling[] = {"+", "-", "*", "/", "//", "%", "**"};

Status Mismatch(Op op, const Value& left, const Value& right) {
  for (const Value* v : {&left, &right}) {
    if (const auto* undefined = v->As<Value::Undefined>())
      return absl::InvalidArgumentError(*undefined->reason);
  }
  return absl::InvalidArgumentError(absl::StrCat("'", ToAbsl(kSpelling[static_cast<int>(op)]),
                                                 "' does not go with values of type ",
                                                 ToAbsl(left.TypeName()), " and ", ToAbsl(right.TypeName())));
}

Status DivisionByZero() { return absl::InvalidArgumentError("division by zero"); }

StatusOr<Value> Floats(Op op, double a, double b) {
  switch (op) {
    case Op::kAdd:
      return Value(a + b);
    case Op::kSubtract:
      return Value(a - b);
    case Op::kMultiply:
      return Value(a * b);
    case Op::kPower: {
      const double power = std::pow(a, b);
      if (!std::isfinite(power) && std::isfinite(a) && std::isfinite(b)) return DoesNotFit();
      return Value(power);
    }
    default:
      break;
  }
  if (b == 0) return DivisionByZero();
  if (op == Op::kDivide) return Value(a / b);
  // The remainder takes the sign of the divisor.
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (remainder < 0) != (b < 0)) remainder += b;
  if (op == Op::kModulo) return Value(remainder);
  return Value(std::floor((a - remainder) / b + 0.5));
}

StatusOr<Value> Integers(Op op, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (op) {
    case Op::kAdd:
      return __builtin_add_overflow(a, b, &result) ? StatusOr<Value>(DoesNotFit()) : Value(result);
    case Op::kSubtract:
      return __builtin_sub_overflow(a, b, &result) ? StatusOr<Value>(DoesNotFit()) : Value(result);
    case Op::kMultiply:
      return __builtin_mul_overflow(a, b, &result) ? StatusOr<Value>(DoesNotFit()) : Value(result);
    case Op::kDivide:
      return Floats(op, static_cast<double>(a), static_cast<double>(b));
    case Op::kPower: {
      if (b < 0) {
        if (a == 0) return DivisionByZero();
        return Floats(op, static_cast<double>(a), static_cast<double>(b));
      }
      result = 1;
      if (a == 0 || a == 1) return Value(b == 0 ? int64_t{1} : a);
      if (a == -1) return Value(b % 2 == 0 ? int64_t{1} : int64_t{-1});
      for (int64_t i = 0; i < b; ++i) {  // at most 63 turns before |a| >= 2 overflows
        if (__builtin_mul_overflow(result, a, &result)) return DoesNotFit();
      }
      return Value(result);
    }
    default:
      break;
  }
  if (b == 0) return DivisionByZero();
  if (b == -1) {  // INT64_MIN / -1 traps
    if (op == Op::kModulo) return Value(int64_t{0});
    return __builtin_sub_overflow(int64_t{0}, a, &result) ? StatusOr<Value>(DoesNotFit()) : Value(result);
  }
  int64_t quotient = a / b;
  int64_t remainder = a % b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) {
    remainder += b;
    --quotient;
  }
  return Value(op == Op::kModulo ? remainder : quotient);
}

StatusOr<Value> Repeat(Interpreter& in, const Value& value, int64_t count) {
  const auto n = static_cast<size_t>(std::max<int64_t>(count, 0));
  if (const Text* text = value.text()) {
    size_t n_bytes;
    if (__builtin_mul_overflow(text->size(), n, &n_bytes)) n_bytes = SIZE_MAX;
    RETURN_IF_ERROR(in.budget().Bytes(n_bytes));
    Text out = text->Slice(0, 0);
    if (n_bytes == 0) return Value(out);
    out.Reserve(n_bytes);
    for (size_t i = 0; i < n; ++i) out.Append(*text);
    return Value(std::move(out));
  }
  const List& list = *value.list();
  size_t n_items;
  if (__builtin_mul_overflow(list.items.size(), n, &n_items)) n_items = SIZE_MAX;
  RETURN_IF_ERROR(in.budget().Elements(n_items));
  std::vector<Value> items;
  while (items.size() < n_items) items.insert(items.end(), list.items.begin(), list.items.end());
  return List::Make(std::move(items), in.limits(), list.flavour);
}

// If one is markup, the other is escaped and the result is markup.
StatusOr<Value> Concatenate(Interpreter& in, const Text& left, const Text& right) {
  const bool markup = left.markup() || right.markup();
  // An entity is six times as long as its character at most.
  RETURN_IF_ERROR(
      in.budget().Bytes((left.size() + right.size()) * (left.markup() != right.markup() ? 6 : 1)));
  Text sum;
  sum.Reserve(left.size() + right.size());
  sum.Append(markup ? Escaped(left) : left);
  sum.Append(markup ? Escaped(right) : right);
  sum.set_markup(markup);
  return Value(std::move(sum));
}

}  // namespace

Status DoesNotFit() { return absl::InvalidArgumentError("the result does not fit an integer of 64 bits"); }

StatusOr<Value> Arithmetic(Interpreter& in, Op op, const Value& left, const Value& right) {
  int64_t i, j;
  if (left.ToInt(&i) && right.ToInt(&j)) return Integers(op, i, j);
  double a, b;
  const bool numbers = left.ToDouble(&a) && right.ToDouble(&b);
  if (numbers && (left.As<Value::BigInteger>() || right.As<Value::BigInteger>())) return DoesNotFit();
  if (numbers) return Floats(op, a, b);
  if (op == Op::kAdd && left.text() && right.text()) return Concatenate(in, *left.text(), *right.text());
  const List *x = left.list(), *y = right.list();
  if (op == Op::kAdd && x && y && x->flavour == y->flavour && x->is_list_or_tuple()) {
    RETURN_IF_ERROR(in.budget().Elements(x->items.size() + y->items.size()));
    std::vector<Value> items = x->items;
    items.insert(items.end(), y->items.begin(), y->items.end());
    return List::Make(std::move(items), in.limits(), x->flavour);
  }
  if (op == Op::kMultiply) {
    const auto repeats = [](const Value& v) {
      return v.text() || (v.list() && v.list()->is_list_or_tuple());
    };
    if (repeats(left) && right.ToInt(&j)) return Repeat(in, left, j);
    if (repeats(right) && left.ToInt(&i)) return Repeat(in, right, i);
  }
  if (op == Op::kModulo && left.text()) {
    if (y && y->flavour == List::Flavour::kTuple) return FormatPercent(in, *left.text(), y->items, nullptr);
    return FormatPercent(in, *left.text(), {right}, right.dict());
  }
  return Mismatch(op, left, right);
}

StatusOr<bool> Contains(Interpreter& in, const Value& container, const Value& needle) {
  if (const Text* text = container.text()) {
    if (!needle.text()) {
      return absl::InvalidArgumentError(
          absl::StrCat("'in <string>' needs a string on the left, got ", ToAbsl(needle.TypeName())));
    }
    RETURN_IF_ERROR(in.budget().Step(1 + text->size() / 256));
    return text->bytes().find(needle.text()->bytes()) != std::string_view::npos;
  }
  if (const Dict* dict = container.dict()) {
    if (!IsHashable(needle)) {
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", ToAbsl(needle.TypeName()), " cannot be a key of a dict"));
    }
    return dict->Find(needle) != nullptr;
  }
  if (container.is_undefined()) return false;
  if (const auto* held = container.As<std::shared_ptr<Generator>>()) {
    Generator& generator = **held;
    while (generator.next < generator.items.size()) {
      ASSIGN_OR_RETURN(const bool same, Equals(generator.items[generator.next++], needle, &in.budget()));
      if (same) return true;
    }
    RETURN_IF_ERROR(generator.end);
    return false;
  }
  if (!container.list()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(container.TypeName()), " is not iterable"));
  }
  for (const Value& item : container.list()->items) {
    ASSIGN_OR_RETURN(const bool same, Equals(item, needle, &in.budget()));
    if (same) return true;
  }
  return false;
}

}  // namespace coterie::jinja
