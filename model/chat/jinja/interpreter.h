#ifndef COTERIE_MODEL_CHAT_JINJA_INTERPRETER_H_
#define COTERIE_MODEL_CHAT_JINJA_INTERPRETER_H_

#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/builtins.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/value.h"

namespace coterie::jinja {

// Names of one block. Lookups go outwards, assignments stay.
struct Scope {
  Scope* parent = nullptr;
  std::vector<std::pair<std::string, Value>> values;

  const Value* Find(std::string_view name) const;  // here and outwards; nullptr when unknown
  void Set(std::string_view name, Value value);
};

// namespace(): the one mutable value. May hold itself, so the interpreter owns it and values only point.
struct Namespace {
  Scope attributes;
};

// The `loop` of a for statement.
struct Loop {
  const ForStmt* recursive = nullptr;  // the statement, where it is a recursive one
  Scope* scope = nullptr;              // around it
  int64_t depth0 = 0;
  Value iterable;  // a list
  size_t index0 = 0;
  Value last_changed;
  bool has_changed = false;

  const std::vector<Value>& items() const { return iterable.list()->items; }
};

// The result of map, select and the like: always true, without a length, and used up by reading, as in
// Python. Python computes the elements when they are read; here they are computed at once, and an error is
// stored in `end`, to be raised where Python would.
struct Generator {
  std::vector<Value> items;
  size_t next = 0;  // elements before it are used up
  Status end;       // what reading beyond the last element says; OK: there are no more
  int depth = 1;
};

// cycler() and joiner(): small objects that remember where they are.
struct Cycler {
  bool is_joiner = false;
  std::vector<Value> items;  // of a joiner: the separator
  size_t position = 0;       // of a joiner: 0 before the first call
  int depth = 1;
};

// A function value: a builtin bound to its receiver, or a macro with the scope it was written in.
struct Callable {
  const Builtin* builtin = nullptr;
  Value self;
  const MacroDefinition* macro = nullptr;
  Scope* scope = nullptr;
};

// One rendering. Not thread-safe; lives on the stack of the thread that renders. Values of the rendering must
// not outlive it (namespaces and macro scopes are its own).
class Interpreter {
 public:
  Interpreter(const Limits& limits, absl::Time now, absl::TimeZone time_zone);
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  // Runs the template over `variables`. The text and who wrote each byte of it.
  StatusOr<Text> Render(const Body& body, std::vector<std::pair<std::string, Value>> variables);

  Budget& budget() { return budget_; }
  const Limits& limits() const { return budget_.limits(); }
  absl::Time now() const { return now_; }
  absl::TimeZone time_zone() const { return time_zone_; }
  Scope& scope() { return *scope_; }
  Scope& top_scope() { return *top_scope_; }

  Status Emit(const Text& text);
  StatusOr<Flow> Exec(const Body& body);
  // Runs a body in a scope of its own and gives what it printed.
  struct Captured {
    Flow flow;
    Text text;
  };
  StatusOr<Captured> Capture(const Body& body);

  // A scope for the time this lives. Its memory is kept when a macro may still refer to it.
  class ScopeHolder {
   public:
    ScopeHolder(Interpreter* in, Scope* parent);
    ~ScopeHolder();
    ScopeHolder(const ScopeHolder&) = delete;
    ScopeHolder& operator=(const ScopeHolder&) = delete;

   private:
    Interpreter* in_;
    Scope* outer_;
    size_t n_scopes_;
    size_t n_scope_users_;
  };

  Status Assign(const Target& target, Value value);
  StatusOr<Value> Call(const Value& callee, Args args, std::string_view name);
  Value MakeMacro(const MacroDefinition* macro);
  // Keeps all open scopes alive until the end of the rendering, for a value that refers to them.
  void KeepScopes() { ++n_scope_users_; }
  Value MakeNamespace(Namespace** out);
  StatusOr<Value> MakeGenerator(std::vector<Value> items, Status end = absl::OkStatus());
  StatusOr<Args> EvalArguments(const Arguments& arguments);

  // The elements of a list, the keys of a dict, the characters of a string; what is left of a generator,
  // which is then used up; nothing for undefined. InvalidArgument for what cannot be iterated. The result has
  // a list().
  StatusOr<Value> Iterate(const Value& value);
  // object.name and object[index]: undefined when absent, an error on an undefined object.
  StatusOr<Value> Attribute(const Value& object, std::string_view name);
  StatusOr<Value> Item(const Value& object, const Value& index);

  // raise_exception(): the message is the template's own, so no line is put before it.
  Status Raise(std::string_view message);
  // Puts "filter 'name': " before an error that comes from its call itself.
  Status Named(std::string_view kind, std::string_view name, const Status& status) const;
  // Puts "line N: " before an error that has none yet.
  Status AtLine(int line, const Status& status) const;

  // Whether the error came from raise_exception().
  bool raised() const { return raised_; }

 private:
  bool HasPlace(const Status& status) const;
  StatusOr<Value> CallLoop(const std::shared_ptr<Loop>& outer, Args args);
  StatusOr<Value> CallMacro(const Callable& callable, Args args);
  Status AddKeywords(const Value& value, std::vector<std::pair<std::string, Value>>* keyword);
  Status BindParameters(const MacroDefinition& macro, Args& args);

  Budget budget_;
  absl::Time now_;
  absl::TimeZone time_zone_;
  std::deque<Scope> scopes_;  // a stack; a deque keeps addresses
  std::deque<Namespace> namespaces_;
  size_t n_scope_users_ = 0;  // made so far (macros, recursive loops): each keeps its scope alive
  Scope* scope_ = nullptr;
  Scope* top_scope_ = nullptr;
  Text* out_ = nullptr;
  int stack_depth_ = 0;
  bool raised_ = false;
};

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_INTERPRETER_H_
