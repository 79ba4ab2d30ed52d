#ifndef COTERIE_MODEL_CHAT_JINJA_VALUE_H_
#define COTERIE_MODEL_CHAT_JINJA_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "common/status.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/text.h"

namespace coterie::jinja {

class Value;
struct List;
class Dict;
struct Namespace;  // interpreter.h: lives as long as one rendering
struct Loop;       // interpreter.h
struct Callable;   // interpreter.h
struct Generator;  // interpreter.h
struct Cycler;     // interpreter.h

// A value of the template language, with Python's meaning. Lists and dicts are immutable, as in the sandbox
// that transformers renders in, so values form no cycles; their nesting is bounded where they are made
// (List::Make, DictBuilder), so every walk over them may recurse. Cheap to copy. Immutable values may be
// shared by threads.
class Value {
 public:
  struct None {};
  struct Undefined {
    std::shared_ptr<const std::string> reason;  // "'x' is undefined": what using it says
  };

  // An integer beyond 64 bits, as the JSON of a caller may have one (an id, say). It can be printed and
  // compared, but there is no arithmetic with it.
  struct BigInteger {
    std::shared_ptr<const std::string> digits;  // perhaps behind a '-'
  };

  Value() : v_(None()) {}
  explicit Value(bool b) : v_(b) {}
  explicit Value(int64_t i) : v_(i) {}
  explicit Value(double d) : v_(d) {}
  explicit Value(Text text) : v_(std::make_shared<const Text>(std::move(text))) {}
  explicit Value(std::shared_ptr<const List> list) : v_(std::move(list)) {}
  explicit Value(std::shared_ptr<const Dict> dict) : v_(std::move(dict)) {}
  explicit Value(Namespace* ns) : v_(ns) {}
  explicit Value(std::shared_ptr<Loop> loop) : v_(std::move(loop)) {}
  explicit Value(std::shared_ptr<const Callable> callable) : v_(std::move(callable)) {}
  explicit Value(std::shared_ptr<Generator> generator) : v_(std::move(generator)) {}
  explicit Value(std::shared_ptr<Cycler> cycler) : v_(std::move(cycler)) {}
  explicit Value(BigInteger integer) : v_(std::move(integer)) {}
  static Value UndefinedBecause(std::string reason) {
    Value value;
    value.v_ = Undefined{std::make_shared<const std::string>(std::move(reason))};
    return value;
  }

  template <typename T>
  const T* As() const {
    return std::get_if<T>(&v_);
  }
  bool is_undefined() const { return As<Undefined>() != nullptr; }
  bool is_none() const { return As<None>() != nullptr; }
  // nullptr unless the value is of that kind. list() is for every kind whose elements are stored: lists,
  // tuples, ranges and the views of a dict.
  const Text* text() const {
    const auto* p = As<std::shared_ptr<const Text>>();
    return p ? p->get() : nullptr;
  }
  const List* list() const {
    const auto* p = As<std::shared_ptr<const List>>();
    return p ? p->get() : nullptr;
  }
  const Dict* dict() const {
    const auto* p = As<std::shared_ptr<const Dict>>();
    return p ? p->get() : nullptr;
  }
  // bool counts as an integer, as in Python. Returns false for every other kind.
  bool ToInt(int64_t* out) const;
  bool ToDouble(double* out) const;  // bool, int and float; of a BigInteger the nearest

  // How Python names the type: "str", "list", "NoneType".
  std::string_view TypeName() const;
  // 0 for scalars and strings, else 1 + that of the deepest element (of a bound method: its receiver).
  int depth() const;

 private:
  std::variant<None, Undefined, bool, int64_t, double, std::shared_ptr<const Text>,
               std::shared_ptr<const List>, std::shared_ptr<const Dict>, Namespace*, std::shared_ptr<Loop>,
               std::shared_ptr<const Callable>, std::shared_ptr<Generator>, std::shared_ptr<Cycler>,
               BigInteger>
      v_;
};

struct List {
  // range() and the views of a dict (keys, values, items) print, compare and index otherwise than lists.
  enum class Flavour { kList, kTuple, kRange, kKeys, kValues, kItems };

  // ResourceExhausted when the elements nest too deep.
  static StatusOr<Value> Make(std::vector<Value> items, const Limits& limits,
                              Flavour flavour = Flavour::kList);
  // range(begin, end, step) with its elements.
  static StatusOr<Value> MakeRange(std::vector<Value> items, int64_t begin, int64_t end, int64_t step,
                                   const Limits& limits);
  // What groupby gives: a pair whose elements have names too, `grouper` and `list`.
  static StatusOr<Value> MakeGroup(Value grouper, Value list, const Limits& limits);

  bool is_view() const {
    return flavour == Flavour::kKeys || flavour == Flavour::kValues || flavour == Flavour::kItems;
  }
  // Whether it can be indexed and sliced.
  bool is_sequence() const { return !is_view(); }
  // Whether it has `+`, `*` and a JSON form.
  bool is_list_or_tuple() const { return flavour == Flavour::kList || flavour == Flavour::kTuple; }

  std::vector<Value> items;
  Flavour flavour = Flavour::kList;
  int depth = 1;
  bool is_group = false;
  int64_t begin = 0, end = 0, step = 1;  // of a range
};

// An immutable dict in order of insertion.
class Dict {
 public:
  const std::vector<std::pair<Value, Value>>& items() const { return items_; }
  // nullptr when absent. A key that cannot be one (a list, a dict) is absent.
  const Value* Find(const Value& key) const;
  const Value* Find(std::string_view key) const;
  int depth() const { return depth_; }

 private:
  friend class DictBuilder;
  std::vector<std::pair<Value, Value>> items_;
  std::unordered_map<std::string, size_t> index_;  // canonical key -> position in items_
  int depth_ = 1;
};

class DictBuilder {
 public:
  DictBuilder() : dict_(std::make_shared<Dict>()) {}
  // The last value for a key wins, in the place of the first. InvalidArgument for a key that is no scalar.
  Status Set(Value key, Value value);
  Status Set(std::string_view key, Value value) { return Set(Value(Text::Trusted(key)), std::move(value)); }
  size_t size() const { return dict_->items().size(); }
  StatusOr<Value> Build(const Limits& limits);

 private:
  std::shared_ptr<Dict> dict_;
};

// Whether the value can be the key of a dict; lists and dicts cannot.
bool IsHashable(const Value& value);

// Truth, equality and order as Python has them. Equality and order walk whole values, so they cost steps.
bool IsTrue(const Value& value);
StatusOr<bool> Equals(const Value& a, const Value& b, Budget* budget);
// -1, 0, 1, or kUnordered (a NaN); InvalidArgument for kinds without an order ("'<' not supported between
// ...").
inline constexpr int kUnordered = 2;
StatusOr<int> Compare(const Value& a, const Value& b, Budget* budget);

// str(): what {{ value }} prints. Undefined prints nothing; markup gives plain text.
StatusOr<Text> ToText(const Value& value, Budget* budget);
// repr(): quoted strings, as inside a printed list.
StatusOr<Text> Repr(const Value& value, Budget* budget);
// The shortest text that reads back as the same number, in Python's format.
std::string FloatRepr(double value);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_VALUE_H_
