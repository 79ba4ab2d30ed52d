#ifndef COTERIE_MODEL_CHAT_JINJA_BUILTINS_H_
#define COTERIE_MODEL_CHAT_JINJA_BUILTINS_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "model/chat/jinja/value.h"

namespace coterie::jinja {

class Interpreter;

// The arguments of one call, taken by parameter in the order of the signature.
class Args {
 public:
  Args() = default;
  Args(std::vector<Value> positional, std::vector<std::pair<std::string, Value>> keyword)
      : positional_(std::move(positional)), keyword_(std::move(keyword)) {}

  // The next parameter, given by position or as `name`; nullptr when it was left out. Valid while this lives.
  const Value* Next(std::string_view name);
  // InvalidArgument naming the parameter when it was left out.
  StatusOr<Value> Need(std::string_view name);
  StatusOr<int64_t> NeedInt(std::string_view name);
  StatusOr<int64_t> NextInt(std::string_view name, int64_t fallback);
  StatusOr<bool> NextBool(std::string_view name, bool fallback);
  // The text of a string; InvalidArgument for another kind. Left out (or none): `fallback`.
  StatusOr<Text> NextText(std::string_view name, std::string_view fallback);
  StatusOr<Text> NeedText(std::string_view name);
  // As `name` only, whatever positions are left.
  const Value* NextNamed(std::string_view name);
  StatusOr<Value> NeedNamed(std::string_view name);
  // InvalidArgument naming what was not taken.
  Status Done() const;

  void AddKeyword(std::string name, Value value) { keyword_.emplace_back(std::move(name), std::move(value)); }

  // All that is left, for calls handed on (map, select): positional ones are not taken one by one.
  std::vector<Value> TakeRest();
  const std::vector<std::pair<std::string, Value>>& keyword() const { return keyword_; }
  size_t n_left() const { return positional_.size() - next_; }

 private:
  std::vector<Value> positional_;
  std::vector<std::pair<std::string, Value>> keyword_;
  size_t next_ = 0;
  std::vector<bool> used_;  // of keyword_
};

// A filter, a test (it gives a bool), a method of strings, lists or dicts (`self` is the receiver), or a
// global function (`self` is none).
struct Builtin {
  std::string_view name;
  StatusOr<Value> (*call)(Interpreter& in, const Value& self, Args& args);
};

// nullptr for names we do not know.
const Builtin* FindFilter(std::string_view name);
const Builtin* FindTest(std::string_view name);
const Builtin* FindGlobal(std::string_view name);
Status NeedsInteger(std::string_view argument, const Value& value);
// The error of reaching an unknown filter or test. A template may name one in a branch that is never reached,
// as in jinja2.
Status Unknown(std::string_view kind, std::string_view name);
// Methods of the value's type.
const Builtin* FindMethod(const Value& self, std::string_view name);

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_BUILTINS_H_
