#ifndef COTERIE_MODEL_CHAT_JINJA_AST_H_
#define COTERIE_MODEL_CHAT_JINJA_AST_H_

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "model/chat/jinja/value.h"

// The parsed template: a tree that evaluates itself over an Interpreter. Immutable once parsed, so one tree
// may be rendered by many threads. `depth` (1 + that of the deepest child) is bounded by the parser;
// recursion follows it.
namespace coterie::jinja {

class Interpreter;
struct Builtin;  // builtins.h

struct Expr {
  explicit Expr(int line) : line(line) {}
  virtual ~Expr() = default;
  virtual StatusOr<Value> Eval(Interpreter& in) const = 0;

  const int line;
  int depth = 1;
};
using ExprPtr = std::unique_ptr<Expr>;

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keyword;
  ExprPtr more_positional;  // *list, may be null
  ExprPtr more_keyword;     // **dict, may be null
};

struct ConstExpr : Expr {
  ConstExpr(int line, Value value) : Expr(line), value(std::move(value)) {}
  StatusOr<Value> Eval(Interpreter& in) const override;
  Value value;
};

struct NameExpr : Expr {
  NameExpr(int line, std::string name) : Expr(line), name(std::move(name)) {}
  StatusOr<Value> Eval(Interpreter& in) const override;
  std::string name;
};

struct ListExpr : Expr {  // [a, b] or (a, b)
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
};

struct DictExpr : Expr {
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};

struct AttributeExpr : Expr {  // object.name
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  ExprPtr object;
  std::string name;
};

struct ItemExpr : Expr {  // object[index]
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  ExprPtr object;
  ExprPtr index;
};

struct SliceExpr : Expr {  // object[begin:end:step], each may be null
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  ExprPtr object;
  ExprPtr begin, end, step;
};

struct CallExpr : Expr {
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  // With one more keyword argument, for {% call %}.
  StatusOr<Value> EvalWithCaller(Interpreter& in, const Value* caller) const;
  ExprPtr callee;
  Arguments arguments;
};

struct FilterExpr : Expr {  // input | name(arguments)
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  // The chain over the body of {% filter %} or {% set %}: there `input` is another filter or null.
  StatusOr<Value> EvalOver(Interpreter& in, const Value& body) const;
  StatusOr<Value> Apply(Interpreter& in, const Value& value) const;
  ExprPtr input;
  std::string name;
  const Builtin* filter = nullptr;  // null: unknown, which is an error where it is reached
  Arguments arguments;
};

struct TestExpr : Expr {  // input is name(arguments)
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  ExprPtr input;
  std::string name;
  const Builtin* test = nullptr;  // null: unknown, which is an error where it is reached
  Arguments arguments;
};

struct UnaryExpr : Expr {
  enum class Op { kNot, kMinus, kPlus };
  UnaryExpr(int line, Op op) : Expr(line), op(op) {}
  StatusOr<Value> Eval(Interpreter& in) const override;
  Op op;
  ExprPtr operand;
};

struct BinaryExpr : Expr {
  enum class Op { kAdd, kSubtract, kMultiply, kDivide, kFloorDivide, kModulo, kPower };
  BinaryExpr(int line, Op op) : Expr(line), op(op) {}
  StatusOr<Value> Eval(Interpreter& in) const override;
  Op op;
  ExprPtr left, right;
};

struct LogicExpr : Expr {  // `and`, `or`: gives the operand that decided
  LogicExpr(int line, bool is_and) : Expr(line), is_and(is_and) {}
  StatusOr<Value> Eval(Interpreter& in) const override;
  bool is_and;
  ExprPtr left, right;
};

struct CompareExpr : Expr {  // first op operand op operand ...
  enum class Op { kEqual, kNotEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kIn, kNotIn };
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  ExprPtr first;
  std::vector<std::pair<Op, ExprPtr>> rest;
};

struct ConcatExpr : Expr {  // a ~ b ~ c
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  std::vector<ExprPtr> parts;
};

struct ConditionalExpr : Expr {  // then if condition else otherwise; `otherwise` may be null
  using Expr::Expr;
  StatusOr<Value> Eval(Interpreter& in) const override;
  ExprPtr condition, then, otherwise;
};

// What a statement tells the loop around it.
enum class Flow { kNext, kBreak, kContinue };

struct Stmt {
  explicit Stmt(int line) : line(line) {}
  virtual ~Stmt() = default;
  virtual StatusOr<Flow> Exec(Interpreter& in) const = 0;

  const int line;
  int depth = 1;
};
using StmtPtr = std::unique_ptr<Stmt>;
using Body = std::vector<StmtPtr>;

// Where an assignment goes: a name, an attribute of a namespace, or a tuple of targets to unpack into.
struct Target {
  std::string name;
  std::string attribute;       // not empty: namespace `name`
  std::vector<Target> unpack;  // not empty, or is_tuple: the value is unpacked
  bool is_tuple = false;
};

struct TextStmt : Stmt {
  TextStmt(int line, Text text) : Stmt(line), text(std::move(text)) {}
  StatusOr<Flow> Exec(Interpreter& in) const override;
  Text text;
};

struct OutputStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  std::vector<ExprPtr> values;
};

struct IfStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};

struct ForStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  // Over the elements of `value`, `depth0` loops of this statement being around it already.
  StatusOr<Flow> Run(Interpreter& in, const Value& value, int64_t depth0) const;
  Target target;
  ExprPtr iterable;
  ExprPtr filter;  // may be null
  Body body;
  Body otherwise;
  bool recursive = false;  // loop(items) in the body runs it again
};

// A tag of jinja2 that a chat template cannot use (there is nothing to include): an error where it is
// reached.
struct UnsupportedStmt : Stmt {
  UnsupportedStmt(int line, std::string tag) : Stmt(line), tag(std::move(tag)) {}
  StatusOr<Flow> Exec(Interpreter& in) const override;
  std::string tag;
};

// A body with a scope of its own: {% autoescape false %}, and {% generation %}, which marks what the
// assistant said, for training.
struct ScopeStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  Body body;
};

// {% block %}: without other templates to inherit from, a body that sees the names of the top level.
struct BlockStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  Body body;
  bool scoped = false;  // sees the names around it too
};

struct LoopControlStmt : Stmt {
  LoopControlStmt(int line, Flow flow) : Stmt(line), flow(flow) {}
  StatusOr<Flow> Exec(Interpreter&) const override { return flow; }
  Flow flow;
};

struct SetStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  Target target;
  ExprPtr value;
};

struct SetBlockStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  Target target;
  ExprPtr filter;  // FilterExpr chain, may be null
  Body body;
};

struct FilterBlockStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  ExprPtr filter;
  Body body;
};

struct WithStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  std::vector<std::pair<Target, ExprPtr>> values;
  Body body;
};

// A macro, or the body of {% call %}.
struct MacroDefinition {
  std::string name;                                         // empty: that of a call
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // default may be null
  Body body;
  int depth = 1;
  bool uses_varargs = false;
  bool uses_kwargs = false;
  bool uses_caller = false;
};

struct MacroStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  MacroDefinition macro;
};

struct CallBlockStmt : Stmt {
  using Stmt::Stmt;
  StatusOr<Flow> Exec(Interpreter& in) const override;
  MacroDefinition caller;
  ExprPtr call;  // a CallExpr
};

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_AST_H_
