// value[begin:end:step]
#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {
namespace {

StatusOr<int64_t> Bound(const Value& bound, int64_t fallback, int64_t n, bool forward) {
  if (bound.is_none()) return fallback;
  int64_t i;
  if (!bound.ToInt(&i)) {
    if (const auto* undefined = bound.As<Value::Undefined>())
      return absl::InvalidArgumentError(*undefined->reason);
    return absl::InvalidArgumentError(
        absl::StrCat("slices take integers or nothing, got ", ToAbsl(bound.TypeName())));
  }
  if (i < 0) i += n;
  return forward ? std::clamp<int64_t>(i, 0, n) : std::clamp<int64_t>(i, -1, n - 1);
}

// The number that stands, or would stand, at place `i` of a range.
StatusOr<int64_t> NumberAt(const List& range, int64_t i) {
  const __int128 number = __int128{range.begin} + __int128{i} * range.step;
  if (number < INT64_MIN || number > INT64_MAX) return DoesNotFit();
  return static_cast<int64_t>(number);
}

int64_t SaturatingProduct(int64_t a, int64_t b) {
  int64_t product;
  return __builtin_mul_overflow(a, b, &product) ? (a < 0) == (b < 0) ? INT64_MAX : INT64_MIN : product;
}

}  // namespace

StatusOr<Value> Slice(Interpreter& in, const Value& value, const Value& begin, const Value& end,
                      const Value& step) {
  const Text* text = value.text();
  const List* list = value.list();
  if (const auto* undefined = value.As<Value::Undefined>())
    return absl::InvalidArgumentError(*undefined->reason);
  if (!text && (!list || !list->is_sequence())) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(value.TypeName()), " has no slices"));
  }
  const auto n = static_cast<int64_t>(text ? CountChars(text->bytes()) : list->items.size());
  int64_t stride = 1;
  if (!step.is_none()) {
    if (!step.ToInt(&stride)) return absl::InvalidArgumentError("the step of a slice must be an integer");
    if (stride == 0) return absl::InvalidArgumentError("the step of a slice cannot be zero");
  }
  const bool forward = stride > 0;
  const int64_t whole_stride = stride;
  stride = std::clamp<int64_t>(stride, -n - 1,
                               n + 1);  // a longer stride takes one element too, and never overflows
  ASSIGN_OR_RETURN(const int64_t from, Bound(begin, forward ? 0 : n - 1, n, forward));
  ASSIGN_OR_RETURN(const int64_t to, Bound(end, forward ? n : -1, n, forward));

  if (list) {
    std::vector<Value> items;
    for (int64_t i = from; forward ? i < to : i > to; i += stride) {
      RETURN_IF_ERROR(in.budget().Elements(1));
      items.push_back(list->items[static_cast<size_t>(i)]);
    }
    if (list->flavour != List::Flavour::kRange)
      return List::Make(std::move(items), in.limits(), list->flavour);
    // A slice of a range is a range. Its ends may lie one step outside of this one's.
    ASSIGN_OR_RETURN(const int64_t first, NumberAt(*list, from));
    ASSIGN_OR_RETURN(const int64_t last, NumberAt(*list, to));
    return List::MakeRange(std::move(items), first, last, SaturatingProduct(list->step, whole_stride),
                           in.limits());
  }
  RETURN_IF_ERROR(in.budget().Bytes(text->size()));
  if (stride == 1) {
    if (from >= to) return Value(text->Slice(0, 0));
    const size_t first = ByteOfChar(text->bytes(), static_cast<size_t>(from));
    const size_t n_bytes = ByteOfChar(text->bytes().substr(first), static_cast<size_t>(to - from));
    return Value(text->Slice(first, first + n_bytes));
  }
  std::vector<size_t> starts;  // byte of each character, and the end
  RETURN_IF_ERROR(in.budget().Elements(static_cast<size_t>(n) + 1));
  for (size_t i = 0; i < text->size(); NextChar(text->bytes(), &i)) starts.push_back(i);
  starts.push_back(text->size());
  Text out = text->Slice(0, 0);
  for (int64_t i = from; forward ? i < to : i > to; i += stride) {
    out.Append(*text, starts[static_cast<size_t>(i)], starts[static_cast<size_t>(i) + 1]);
  }
  return Value(std::move(out));
}

}  // namespace coterie::jinja
