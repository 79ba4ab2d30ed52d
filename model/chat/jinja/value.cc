#include "model/chat/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {
namespace {

Status TooDeep(const Limits& limits) {
  return absl::ResourceExhaustedError(
      absl::StrCat("lists and dicts nest deeper than the limit of ", limits.depth));
}

// 1, 1.0 and True are one key, as in Python. Empty for what cannot be a key.
std::string CanonicalKey(const Value& key) {
  if (const List* list = key.list(); list && list->flavour == List::Flavour::kTuple) {
    std::string out = "t";
    for (const Value& item : list->items) {
      const std::string part = CanonicalKey(item);
      if (part.empty()) return "";
      absl::StrAppend(&out, part.size(), ":", part);  // the length keeps parts apart
    }
    return out;
  }
  if (key.is_undefined()) return "undefined";
  if (const auto* big = key.As<Value::BigInteger>()) return absl::StrCat("i", *big->digits);
  if (const Text* text = key.text()) return absl::StrCat("s", ToAbsl(text->bytes()));
  if (key.is_none()) return "none";
  int64_t i;
  if (key.ToInt(&i)) return absl::StrCat("i", i);
  if (const double* d = key.As<double>()) {
    if (*d == std::floor(*d) && std::abs(*d) < 9e18) return absl::StrCat("i", static_cast<int64_t>(*d));
    return absl::StrCat("f", FloatRepr(*d));
  }
  return "";
}

}  // namespace

bool Value::ToInt(int64_t* out) const {
  if (const bool* b = As<bool>()) return *out = *b ? 1 : 0, true;
  if (const int64_t* i = As<int64_t>()) return *out = *i, true;
  return false;
}

bool Value::ToDouble(double* out) const {
  if (const double* d = As<double>()) return *out = *d, true;
  if (const auto* big = As<BigInteger>()) {
    const char* end = big->digits->data() + big->digits->size();
    // Beyond what a double holds: infinite.
    if (std::from_chars(big->digits->data(), end, *out).ec == std::errc::result_out_of_range) {
      *out = big->digits->starts_with('-') ? -HUGE_VAL : HUGE_VAL;
    }
    return true;
  }
  int64_t i;
  if (!ToInt(&i)) return false;
  *out = static_cast<double>(i);
  return true;
}

std::string_view Value::TypeName() const {
  struct Name {
    std::string_view operator()(const None&) const { return "NoneType"; }
    std::string_view operator()(const Undefined&) const { return "Undefined"; }
    std::string_view operator()(bool) const { return "bool"; }
    std::string_view operator()(int64_t) const { return "int"; }
    std::string_view operator()(double) const { return "float"; }
    std::string_view operator()(const BigInteger&) const { return "int"; }
    std::string_view operator()(const std::shared_ptr<const Text>&) const { return "str"; }
    std::string_view operator()(const std::shared_ptr<const List>& list) const {
      static constexpr std::string_view kNames[] = {"list",      "tuple",       "range",
                                                    "dict_keys", "dict_values", "dict_items"};
      return kNames[static_cast<size_t>(list->flavour)];
    }
    std::string_view operator()(const std::shared_ptr<const Dict>&) const { return "dict"; }
    std::string_view operator()(Namespace*) const { return "Namespace"; }
    std::string_view operator()(const std::shared_ptr<Loop>&) const { return "LoopContext"; }
    std::string_view operator()(const std::shared_ptr<const Callable>&) const { return "function"; }
    std::string_view operator()(const std::shared_ptr<Generator>&) const { return "generator"; }
    std::string_view operator()(const std::shared_ptr<Cycler>& cycler) const {
      return cycler->is_joiner ? "Joiner" : "Cycler";
    }
  };
  return std::visit(Name(), v_);
}

int Value::depth() const {
  if (const List* l = list()) return l->depth;
  if (const Dict* d = dict()) return d->depth();
  if (const auto* loop = As<std::shared_ptr<Loop>>()) return 1 + (*loop)->iterable.depth();
  if (const auto* callable = As<std::shared_ptr<const Callable>>()) return 1 + (*callable)->self.depth();
  if (const auto* generator = As<std::shared_ptr<Generator>>()) return (*generator)->depth;
  if (const auto* cycler = As<std::shared_ptr<Cycler>>()) return (*cycler)->depth;
  return 0;
}

namespace {

StatusOr<std::shared_ptr<List>> MakeList(std::vector<Value> items, const Limits& limits,
                                         List::Flavour flavour) {
  auto list = std::make_shared<List>();
  for (const Value& item : items) list->depth = std::max(list->depth, item.depth() + 1);
  if (list->depth > limits.depth) return TooDeep(limits);
  list->items = std::move(items);
  list->flavour = flavour;
  return list;
}

}  // namespace

StatusOr<Value> List::Make(std::vector<Value> items, const Limits& limits, Flavour flavour) {
  ASSIGN_OR_RETURN(std::shared_ptr<const List> list, MakeList(std::move(items), limits, flavour));
  return Value(std::move(list));
}

StatusOr<Value> List::MakeGroup(Value grouper, Value members, const Limits& limits) {
  ASSIGN_OR_RETURN(std::shared_ptr<List> group,
                   MakeList({std::move(grouper), std::move(members)}, limits, Flavour::kTuple));
  group->is_group = true;
  return Value(std::shared_ptr<const List>(std::move(group)));
}

StatusOr<Value> List::MakeRange(std::vector<Value> items, int64_t begin, int64_t end, int64_t step,
                                const Limits& limits) {
  ASSIGN_OR_RETURN(std::shared_ptr<List> range, MakeList(std::move(items), limits, Flavour::kRange));
  range->begin = begin;
  range->end = end;
  range->step = step;
  return Value(std::shared_ptr<const List>(std::move(range)));
}

const Value* Dict::Find(const Value& key) const {
  const std::string canonical = CanonicalKey(key);
  if (canonical.empty()) return nullptr;
  const auto it = index_.find(canonical);
  return it == index_.end() ? nullptr : &items_[it->second].second;
}

const Value* Dict::Find(std::string_view key) const {
  const auto it = index_.find(absl::StrCat("s", ToAbsl(key)));
  return it == index_.end() ? nullptr : &items_[it->second].second;
}

Status DictBuilder::Set(Value key, Value value) {
  const std::string canonical = CanonicalKey(key);
  if (canonical.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(key.TypeName()), " cannot be a key of a dict"));
  }
  dict_->depth_ = std::max(dict_->depth_, value.depth() + 1);
  const auto [it, fresh] = dict_->index_.emplace(canonical, dict_->items_.size());
  if (fresh) {
    dict_->items_.emplace_back(std::move(key), std::move(value));
  } else {
    dict_->items_[it->second].second = std::move(value);
  }
  return absl::OkStatus();
}

StatusOr<Value> DictBuilder::Build(const Limits& limits) {
  if (dict_->depth_ > limits.depth) return TooDeep(limits);
  return Value(std::shared_ptr<const Dict>(std::move(dict_)));
}

bool IsHashable(const Value& value) {
  if (value.dict()) return false;
  const List* list = value.list();
  if (!list || list->flavour == List::Flavour::kRange) return true;
  return list->flavour == List::Flavour::kTuple &&
         std::all_of(list->items.begin(), list->items.end(), IsHashable);
}

bool IsTrue(const Value& value) {
  if (value.is_none() || value.is_undefined()) return false;
  double number;
  if (value.ToDouble(&number)) return number != 0;
  if (const Text* text = value.text()) return !text->empty();
  if (const List* list = value.list()) return !list->items.empty();
  if (const Dict* dict = value.dict()) return !dict->items().empty();
  return true;
}

namespace {

// Compares two integers written without leading zeros whose doubles are equal.
int CompareDigits(const std::string& a, const std::string& b) {
  const int magnitude = a.size() != b.size() ? (a.size() < b.size() ? -1 : 1)
                        : a.compare(b) < 0   ? -1
                                             : a != b;
  return a.starts_with('-') ? -magnitude : magnitude;
}

// Three-way comparison of two numbers without losing integers beyond 2^53.
int CompareNumbers(const Value& a, const Value& b) {
  int64_t i, j;
  if (a.ToInt(&i) && b.ToInt(&j)) return i < j ? -1 : i > j;
  const auto wide = [](const Value& v) -> long double {
    int64_t n;
    if (v.ToInt(&n)) return n;
    double d = 0;
    v.ToDouble(&d);
    return d;
  };
  const long double x = wide(a), y = wide(b);
  if (x == y && a.As<Value::BigInteger>() && b.As<Value::BigInteger>()) {
    return CompareDigits(*a.As<Value::BigInteger>()->digits, *b.As<Value::BigInteger>()->digits);
  }
  return x < y ? -1 : x > y ? 1 : x == y ? 0 : kUnordered;
}

bool IsNumber(const Value& value) {
  double unused;
  return value.ToDouble(&unused);
}

template <typename Pointer>
bool SameObject(const Value& a, const Value& b) {
  const Pointer *x = a.As<Pointer>(), *y = b.As<Pointer>();
  return x && y && *x == *y;
}

// The views of a dict compare as sets; neither holds an element twice.
StatusOr<bool> SameElements(const List& a, const List& b, Budget* budget) {
  if (a.items.size() != b.items.size()) return false;
  for (const Value& wanted : a.items) {
    bool found = false;
    for (size_t i = 0; i < b.items.size() && !found; ++i) {
      ASSIGN_OR_RETURN(found, Equals(wanted, b.items[i], budget));
    }
    if (!found) return false;
  }
  return true;
}

}  // namespace

StatusOr<bool> Equals(const Value& a, const Value& b, Budget* budget) {
  RETURN_IF_ERROR(budget->Step());
  if (IsNumber(a) && IsNumber(b)) return CompareNumbers(a, b) == 0;
  if (a.text() && b.text()) return a.text()->bytes() == b.text()->bytes();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  if (const List* x = a.list(), *y = b.list(); x && y) {
    if (x == y) return true;
    const bool sets = x->flavour == List::Flavour::kKeys || x->flavour == List::Flavour::kItems;
    if (sets && (y->flavour == List::Flavour::kKeys || y->flavour == List::Flavour::kItems)) {
      return SameElements(*x, *y, budget);
    }
    if (x->flavour != y->flavour || x->flavour == List::Flavour::kValues) return false;
    if (x->items.size() != y->items.size()) return false;
    for (size_t i = 0; i < x->items.size(); ++i) {
      ASSIGN_OR_RETURN(const bool same, Equals(x->items[i], y->items[i], budget));
      if (!same) return false;
    }
    return true;
  }
  if (const Dict* x = a.dict(), *y = b.dict(); x && y) {
    if (x == y) return true;
    if (x->items().size() != y->items().size()) return false;
    for (const auto& [key, value] : x->items()) {
      const Value* other = y->Find(key);
      if (!other) return false;
      ASSIGN_OR_RETURN(const bool same, Equals(value, *other, budget));
      if (!same) return false;
    }
    return true;
  }
  if (a.As<Namespace*>() && b.As<Namespace*>()) return *a.As<Namespace*>() == *b.As<Namespace*>();
  return SameObject<std::shared_ptr<const Callable>>(a, b) || SameObject<std::shared_ptr<Generator>>(a, b) ||
         SameObject<std::shared_ptr<Cycler>>(a, b) || SameObject<std::shared_ptr<Loop>>(a, b);
}

StatusOr<int> Compare(const Value& a, const Value& b, Budget* budget) {
  RETURN_IF_ERROR(budget->Step());
  if (IsNumber(a) && IsNumber(b)) return CompareNumbers(a, b);
  // Byte order of UTF-8 is the order of the code points.
  if (a.text() && b.text()) {
    const int order = a.text()->bytes().compare(b.text()->bytes());
    return order < 0 ? -1 : order > 0;
  }
  if (const List* x = a.list(), *y = b.list(); x && y && x->flavour == y->flavour && x->is_list_or_tuple()) {
    for (size_t i = 0; i < std::min(x->items.size(), y->items.size()); ++i) {
      ASSIGN_OR_RETURN(const bool same, Equals(x->items[i], y->items[i], budget));
      if (!same) return Compare(x->items[i], y->items[i], budget);
    }
    return static_cast<int>(x->items.size() > y->items.size()) -
           static_cast<int>(x->items.size() < y->items.size());
  }
  for (const Value* v : {&a, &b}) {
    if (const auto* undefined = v->As<Value::Undefined>())
      return absl::InvalidArgumentError(*undefined->reason);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("values of type ", ToAbsl(a.TypeName()), " and ", ToAbsl(b.TypeName()), " have no order"));
}

}  // namespace coterie::jinja
