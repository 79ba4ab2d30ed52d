#include <algorithm>

#include "model/chat/jinja/arithmetic.h"
#include "model/chat/jinja/filters.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/text_functions.h"
#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {

StatusOr<Value> ReadAttribute(Interpreter& in, const Value& value, const Value& attribute,
                              const Value* fallback) {
  if (attribute.is_none()) return value;
  if (fallback != nullptr && fallback->is_none()) fallback = nullptr;
  const auto filled = [fallback](StatusOr<Value> part) {
    return part.ok() && part->is_undefined() && fallback != nullptr ? *fallback : part;
  };
  if (!attribute.text()) return filled(in.Item(value, attribute));
  Value current = value;
  std::string_view rest = attribute.text()->bytes();
  while (true) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool number =
        !part.empty() && part.size() < 10 && part.find_first_not_of("0123456789") == std::string_view::npos;
    const Value index =
        number ? Value(static_cast<int64_t>(std::stoi(std::string(part)))) : Value(Text::Trusted(part));
    ASSIGN_OR_RETURN(current, filled(in.Item(current, index)));
    if (dot == std::string_view::npos) return current;
    rest.remove_prefix(dot + 1);
  }
}

Value CaseKey(const Value& value, bool case_sensitive) {
  return value.text() && !case_sensitive ? Value(ToLower(*value.text())) : value;
}

StatusOr<std::vector<size_t>> SortedOrder(Interpreter& in, const std::vector<Value>& keys, bool reverse) {
  std::vector<size_t> order(keys.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  Status status;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!status.ok()) return false;
    const StatusOr<int> c =
        reverse ? Compare(keys[b], keys[a], &in.budget()) : Compare(keys[a], keys[b], &in.budget());
    if (!c.ok()) status = c.status();
    return c.ok() && *c == -1;
  });
  if (!status.ok()) return status;
  return order;
}

namespace {

StatusOr<Value> Length(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  if (const Text* text = self.text()) {
    RETURN_IF_ERROR(in.budget().Step(1 + text->size() / 256));
    return Value(static_cast<int64_t>(CountChars(text->bytes())));
  }
  if (self.list()) return Value(static_cast<int64_t>(self.list()->items.size()));
  if (self.dict()) return Value(static_cast<int64_t>(self.dict()->items().size()));
  if (self.is_undefined()) return Value(int64_t{0});
  return absl::InvalidArgumentError(
      absl::StrCat("a value of type ", ToAbsl(self.TypeName()), " has no length"));
}

StatusOr<Value> JoinFilter(Interpreter& in, const Value& self, Args& args) {
  const Value* separator = args.Next("d");
  const Value* attribute = args.Next("attribute");
  RETURN_IF_ERROR(args.Done());
  Text between;
  if (separator) {
    ASSIGN_OR_RETURN(between, ToText(*separator, &in.budget()));
  }
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  std::vector<Text> parts;
  for (const Value& item : items.list()->items) {
    ASSIGN_OR_RETURN(const Value part, ReadAttribute(in, item, attribute ? *attribute : Value()));
    ASSIGN_OR_RETURN(Text text, ToText(part, &in.budget()));
    parts.push_back(std::move(text));
  }
  ASSIGN_OR_RETURN(Text out, Join(parts, between, &in.budget()));
  return Value(std::move(out));
}

StatusOr<Value> First(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  if (const auto* held = self.As<std::shared_ptr<Generator>>()) {
    Generator& generator = **held;
    if (generator.next < generator.items.size()) return generator.items[generator.next++];
    RETURN_IF_ERROR(generator.end);
  }
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  if (items.list()->items.empty()) return Value::UndefinedBecause("No first item, sequence was empty.");
  return items.list()->items.front();
}

StatusOr<Value> Last(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  if (self.As<std::shared_ptr<Generator>>()) {
    return absl::InvalidArgumentError("a generator has no last item; put '| list' before it");
  }
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  if (items.list()->items.empty()) return Value::UndefinedBecause("No last item, sequence was empty.");
  return items.list()->items.back();
}

StatusOr<Value> ToList(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  if (items.list()->flavour == List::Flavour::kList) return items;
  RETURN_IF_ERROR(in.budget().Elements(items.list()->items.size()));
  return List::Make(items.list()->items, in.limits());
}

StatusOr<Value> Reverse(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  if (self.text()) return Slice(in, self, Value(), Value(), Value(int64_t{-1}));
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  RETURN_IF_ERROR(in.budget().Elements(items.list()->items.size()));
  std::vector<Value> reversed(items.list()->items.rbegin(), items.list()->items.rend());
  if (self.As<std::shared_ptr<Generator>>()) return List::Make(std::move(reversed), in.limits());
  return in.MakeGenerator(std::move(reversed));
}

StatusOr<Value> Items(Interpreter& in, const Value& self, Args& args) {
  RETURN_IF_ERROR(args.Done());
  return Lazily(in, [&](std::vector<Value>* pairs) -> Status {
    if (self.is_undefined()) return absl::OkStatus();
    if (!self.dict()) return absl::InvalidArgumentError("Can only get item pairs from a mapping.");
    RETURN_IF_ERROR(in.budget().Elements(self.dict()->items().size() * 8));
    for (const auto& [key, value] : self.dict()->items()) {
      ASSIGN_OR_RETURN(Value pair, List::Make({key, value}, in.limits(), List::Flavour::kTuple));
      pairs->push_back(std::move(pair));
    }
    return absl::OkStatus();
  });
}

StatusOr<Value> DictSort(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool case_sensitive, args.NextBool("case_sensitive", false));
  ASSIGN_OR_RETURN(const Text by, args.NextText("by", "key"));
  ASSIGN_OR_RETURN(const bool reverse, args.NextBool("reverse", false));
  RETURN_IF_ERROR(args.Done());
  if (!self.dict()) {
    return absl::InvalidArgumentError(absl::StrCat("needs a dict, got ", ToAbsl(self.TypeName())));
  }
  if (by.bytes() != "key" && by.bytes() != "value") {
    return absl::InvalidArgumentError("the argument 'by' must be 'key' or 'value'");
  }
  std::vector<Value> keys;
  RETURN_IF_ERROR(in.budget().Elements(self.dict()->items().size() * 8));
  for (const auto& [key, value] : self.dict()->items()) {
    keys.push_back(CaseKey(by.bytes() == "key" ? key : value, case_sensitive));
  }
  ASSIGN_OR_RETURN(const std::vector<size_t> order, SortedOrder(in, keys, reverse));
  std::vector<Value> pairs;
  for (const size_t i : order) {
    const auto& [key, value] = self.dict()->items()[i];
    ASSIGN_OR_RETURN(Value pair, List::Make({key, value}, in.limits(), List::Flavour::kTuple));
    pairs.push_back(std::move(pair));
  }
  return List::Make(std::move(pairs), in.limits());
}

StatusOr<std::vector<Value>> SortKeys(Interpreter& in, const List& items, const Value* attribute,
                                      bool case_sensitive) {
  std::vector<Value> keys;
  RETURN_IF_ERROR(in.budget().Elements(items.items.size()));
  for (const Value& item : items.items) {
    ASSIGN_OR_RETURN(const Value key, ReadAttribute(in, item, attribute ? *attribute : Value()));
    if (key.text()) RETURN_IF_ERROR(in.budget().Bytes(key.text()->size()));
    keys.push_back(CaseKey(key, case_sensitive));
  }
  return keys;
}

// The keys of `sort`, which may name several attributes ("a,b"): lists, so that equal ones need no order.
StatusOr<std::vector<Value>> ListKeys(Interpreter& in, const List& items, const Value* attribute,
                                      bool case_sensitive) {
  std::vector<Value> names;
  if (attribute && attribute->text()) {
    for (Text& name : Split(*attribute->text(), ",", -1, false)) names.emplace_back(std::move(name));
  } else {
    names.push_back(attribute ? *attribute : Value());
  }
  std::vector<std::vector<Value>> parts;
  parts.reserve(names.size());
  for (const Value& name : names) {
    ASSIGN_OR_RETURN(std::vector<Value> keys, SortKeys(in, items, &name, case_sensitive));
    parts.push_back(std::move(keys));
  }
  std::vector<Value> keys;
  RETURN_IF_ERROR(in.budget().Elements(items.items.size() * (names.size() + 4)));
  for (size_t i = 0; i < items.items.size(); ++i) {
    std::vector<Value> key;
    key.reserve(parts.size());
    for (const std::vector<Value>& part : parts) key.push_back(part[i]);
    ASSIGN_OR_RETURN(Value list, List::Make(std::move(key), in.limits()));
    keys.push_back(std::move(list));
  }
  return keys;
}

StatusOr<Value> Sort(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool reverse, args.NextBool("reverse", false));
  ASSIGN_OR_RETURN(const bool case_sensitive, args.NextBool("case_sensitive", false));
  const Value* attribute = args.Next("attribute");
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  ASSIGN_OR_RETURN(const std::vector<Value> keys, ListKeys(in, *items.list(), attribute, case_sensitive));
  ASSIGN_OR_RETURN(const std::vector<size_t> order, SortedOrder(in, keys, reverse));
  std::vector<Value> sorted;
  sorted.reserve(order.size());
  for (const size_t i : order) sorted.push_back(items.list()->items[i]);
  return List::Make(std::move(sorted), in.limits());
}

StatusOr<Value> Unique(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool case_sensitive, args.NextBool("case_sensitive", false));
  const Value* attribute = args.Next("attribute");
  RETURN_IF_ERROR(args.Done());
  return Lazily(in, [&](std::vector<Value>* kept) -> Status {
    ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
    ASSIGN_OR_RETURN(const std::vector<Value> keys, SortKeys(in, *items.list(), attribute, case_sensitive));
    DictBuilder seen;
    for (size_t i = 0; i < keys.size(); ++i) {
      const size_t before = seen.size();
      RETURN_IF_ERROR(seen.Set(keys[i], Value()));
      if (seen.size() > before) kept->push_back(items.list()->items[i]);
    }
    return absl::OkStatus();
  });
}

template <int kSign>  // -1: smallest, 1: largest
StatusOr<Value> Extreme(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const bool case_sensitive, args.NextBool("case_sensitive", false));
  const Value* attribute = args.Next("attribute");
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  ASSIGN_OR_RETURN(const std::vector<Value> keys, SortKeys(in, *items.list(), attribute, case_sensitive));
  if (keys.empty()) return Value::UndefinedBecause("No aggregated item, sequence was empty.");
  size_t best = 0;
  for (size_t i = 1; i < keys.size(); ++i) {
    ASSIGN_OR_RETURN(const int order, Compare(keys[i], keys[best], &in.budget()));
    if (order == kSign) best = i;
  }
  return items.list()->items[best];
}

StatusOr<Value> Sum(Interpreter& in, const Value& self, Args& args) {
  const Value* attribute = args.Next("attribute");
  const Value* start = args.Next("start");
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  Value total = start ? *start : Value(int64_t{0});
  if (total.text()) return absl::InvalidArgumentError("cannot sum strings; use join");
  for (const Value& item : items.list()->items) {
    RETURN_IF_ERROR(in.budget().Step());
    ASSIGN_OR_RETURN(const Value value, ReadAttribute(in, item, attribute ? *attribute : Value()));
    ASSIGN_OR_RETURN(total, Arithmetic(in, BinaryExpr::Op::kAdd, total, value));
  }
  return total;
}

// Lists of `linecount` items; the last one is filled up when there is something to fill with. Counts below 1
// do what jinja2 makes of them.
StatusOr<Value> Batch(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value count, args.Need("linecount"));
  const Value* fill = args.Next("fill_with");
  RETURN_IF_ERROR(args.Done());
  return Lazily(in, [&](std::vector<Value>* rows) -> Status {
    int64_t n = -1;
    if (!count.ToInt(&n) && fill && !fill->is_none()) return NeedsInteger("linecount", count);
    ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
    std::vector<Value> row;
    const auto put_out = [&]() -> Status {
      ASSIGN_OR_RETURN(Value full, List::Make(std::exchange(row, {}), in.limits()));
      rows->push_back(std::move(full));
      return absl::OkStatus();
    };
    for (const Value& item : items.list()->items) {
      RETURN_IF_ERROR(in.budget().Elements(8));
      if (static_cast<int64_t>(row.size()) == n) RETURN_IF_ERROR(put_out());
      row.push_back(item);
    }
    if (row.empty()) return absl::OkStatus();
    if (fill && !fill->is_none() && static_cast<int64_t>(row.size()) < n) {
      RETURN_IF_ERROR(in.budget().Elements(static_cast<size_t>(n) - row.size()));
      row.resize(static_cast<size_t>(n), *fill);
    }
    return put_out();
  });
}

// `slices` lists of about the same length; the shorter ones are filled up when there is something to fill
// with.
StatusOr<Value> SliceFilter(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value count, args.Need("slices"));
  const Value* fill = args.Next("fill_with");
  RETURN_IF_ERROR(args.Done());
  return Lazily(in, [&](std::vector<Value>* rows) -> Status {
    int64_t n = 0;
    if (!count.ToInt(&n)) return NeedsInteger("slices", count);
    ASSIGN_OR_RETURN(const Value held, in.Iterate(self));
    if (n == 0) return absl::InvalidArgumentError("division by zero");
    if (n < 0) return absl::OkStatus();
    const std::vector<Value>& items = held.list()->items;
    const size_t n_each = items.size() / static_cast<size_t>(n),
                 n_longer = items.size() % static_cast<size_t>(n);
    size_t begin = 0;
    for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
      const size_t end = begin + n_each + (i < n_longer ? 1 : 0);
      RETURN_IF_ERROR(in.budget().Elements(8 + end - begin));
      std::vector<Value> row(items.begin() + static_cast<ptrdiff_t>(begin),
                             items.begin() + static_cast<ptrdiff_t>(end));
      if (fill && !fill->is_none() && i >= n_longer) row.push_back(*fill);
      ASSIGN_OR_RETURN(Value list, List::Make(std::move(row), in.limits()));
      rows->push_back(std::move(list));
      begin = end;
    }
    return absl::OkStatus();
  });
}

// Pairs (grouper, list), sorted by what `attribute` reads.
StatusOr<Value> GroupBy(Interpreter& in, const Value& self, Args& args) {
  ASSIGN_OR_RETURN(const Value attribute, args.Need("attribute"));
  const Value* fallback = args.Next("default");
  ASSIGN_OR_RETURN(const bool case_sensitive, args.NextBool("case_sensitive", false));
  RETURN_IF_ERROR(args.Done());
  ASSIGN_OR_RETURN(const Value items, in.Iterate(self));
  std::vector<Value> groupers, keys;
  RETURN_IF_ERROR(in.budget().Elements(items.list()->items.size() * 8));
  for (const Value& item : items.list()->items) {
    ASSIGN_OR_RETURN(Value grouper, ReadAttribute(in, item, attribute, fallback));
    keys.push_back(CaseKey(grouper, case_sensitive));
    groupers.push_back(std::move(grouper));
  }
  ASSIGN_OR_RETURN(const std::vector<size_t> order, SortedOrder(in, keys, false));
  std::vector<Value> groups;
  for (size_t begin = 0; begin < order.size();) {
    std::vector<Value> members;
    size_t end = begin;
    for (; end < order.size(); ++end) {
      ASSIGN_OR_RETURN(const bool same, Equals(keys[order[begin]], keys[order[end]], &in.budget()));
      if (!same) break;
      members.push_back(items.list()->items[order[end]]);
    }
    if (end == begin) return absl::InvalidArgumentError("the attribute is not equal to itself (NaN)");
    ASSIGN_OR_RETURN(Value group, List::Make(std::move(members), in.limits()));
    ASSIGN_OR_RETURN(group, List::MakeGroup(groupers[order[begin]], std::move(group), in.limits()));
    groups.push_back(std::move(group));
    begin = end;
  }
  return List::Make(std::move(groups), in.limits());
}

constexpr Builtin kSequenceFilters[] = {
    {"batch", Batch},  {"slice", SliceFilter}, {"groupby", GroupBy}, {"length", Length},
    {"count", Length}, {"join", JoinFilter},   {"first", First},     {"last", Last},
    {"list", ToList},  {"reverse", Reverse},   {"items", Items},     {"dictsort", DictSort},
    {"sort", Sort},    {"unique", Unique},     {"min", Extreme<-1>}, {"max", Extreme<1>},
    {"sum", Sum},
};

}  // namespace

std::span<const Builtin> SequenceFilters() { return kSequenceFilters; }

}  // namespace coterie::jinja
