// What each statement does.
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/interpreter.h"

namespace coterie::jinja {

StatusOr<Flow> TextStmt::Exec(Interpreter& in) const {
  RETURN_IF_ERROR(in.Emit(text));
  return Flow::kNext;
}

StatusOr<Flow> OutputStmt::Exec(Interpreter& in) const {
  for (const ExprPtr& e : values) {
    ASSIGN_OR_RETURN(const Value value, e->Eval(in));
    ASSIGN_OR_RETURN(const Text text, ToText(value, &in.budget()));
    RETURN_IF_ERROR(in.Emit(text));
  }
  return Flow::kNext;
}

StatusOr<Flow> IfStmt::Exec(Interpreter& in) const {
  for (const auto& [condition, body] : branches) {
    ASSIGN_OR_RETURN(const Value value, condition->Eval(in));
    if (IsTrue(value)) return in.Exec(body);
  }
  return in.Exec(otherwise);
}

StatusOr<Flow> ForStmt::Exec(Interpreter& in) const {
  ASSIGN_OR_RETURN(const Value value, iterable->Eval(in));
  return Run(in, value, 0);
}

StatusOr<Flow> ForStmt::Run(Interpreter& in, const Value& value, int64_t depth0) const {
  ASSIGN_OR_RETURN(Value items, in.Iterate(value));
  if (filter) {
    std::vector<Value> kept;
    for (const Value& item : items.list()->items) {
      const Interpreter::ScopeHolder scope(&in, &in.scope());
      RETURN_IF_ERROR(in.budget().Step());
      RETURN_IF_ERROR(in.Assign(target, item));
      ASSIGN_OR_RETURN(const Value keep, filter->Eval(in));
      if (!IsTrue(keep)) continue;
      RETURN_IF_ERROR(in.budget().Elements(1));
      kept.push_back(item);
    }
    ASSIGN_OR_RETURN(items, List::Make(std::move(kept), in.limits()));
  }
  auto loop = std::make_shared<Loop>();
  loop->iterable = std::move(items);
  if (recursive) {
    loop->recursive = this;
    RETURN_IF_ERROR(in.budget().Elements(8));
    in.KeepScopes();  // the loop may be called when this has ended
  }
  loop->scope = &in.scope();
  loop->depth0 = depth0;
  bool any_completed = false;
  for (; loop->index0 < loop->items().size(); ++loop->index0) {
    RETURN_IF_ERROR(in.budget().Step());
    const Interpreter::ScopeHolder scope(&in, &in.scope());
    in.scope().Set("loop", Value(loop));
    RETURN_IF_ERROR(in.Assign(target, loop->items()[loop->index0]));
    const StatusOr<Flow> flow = in.Exec(body);
    if (!flow.ok()) return flow.status();
    any_completed |= *flow == Flow::kNext;
    if (*flow == Flow::kBreak) break;
  }
  if (any_completed) return Flow::kNext;
  // As in jinja2, `else` runs after every loop of which no turn was completed, also one that broke off or
  // skipped all.
  const Interpreter::ScopeHolder scope(&in, &in.scope());
  return in.Exec(otherwise);
}

StatusOr<Flow> BlockStmt::Exec(Interpreter& in) const {
  const Interpreter::ScopeHolder scope(&in, scoped ? &in.scope() : &in.top_scope());
  return in.Exec(body);
}

StatusOr<Flow> SetStmt::Exec(Interpreter& in) const {
  ASSIGN_OR_RETURN(Value result, value->Eval(in));
  RETURN_IF_ERROR(in.Assign(target, std::move(result)));
  return Flow::kNext;
}

namespace {

StatusOr<Value> Filtered(Interpreter& in, const ExprPtr& filter, Text text) {
  Value body(std::move(text));
  return filter ? static_cast<const FilterExpr&>(*filter).EvalOver(in, body) : body;
}

}  // namespace

StatusOr<Flow> SetBlockStmt::Exec(Interpreter& in) const {
  ASSIGN_OR_RETURN(Interpreter::Captured captured, in.Capture(body));
  if (captured.flow != Flow::kNext) return captured.flow;
  ASSIGN_OR_RETURN(Value result, Filtered(in, filter, std::move(captured.text)));
  RETURN_IF_ERROR(in.Assign(target, std::move(result)));
  return Flow::kNext;
}

StatusOr<Flow> FilterBlockStmt::Exec(Interpreter& in) const {
  ASSIGN_OR_RETURN(Interpreter::Captured captured, in.Capture(body));
  if (captured.flow != Flow::kNext) return captured.flow;
  ASSIGN_OR_RETURN(const Value result, Filtered(in, filter, std::move(captured.text)));
  ASSIGN_OR_RETURN(const Text text, ToText(result, &in.budget()));
  RETURN_IF_ERROR(in.Emit(text));
  return Flow::kNext;
}

StatusOr<Flow> WithStmt::Exec(Interpreter& in) const {
  // The values are those of outside, whatever the names inside.
  std::vector<Value> results;
  for (const auto& [target, e] : values) {
    ASSIGN_OR_RETURN(Value value, e->Eval(in));
    results.push_back(std::move(value));
  }
  const Interpreter::ScopeHolder scope(&in, &in.scope());
  for (size_t i = 0; i < values.size(); ++i)
    RETURN_IF_ERROR(in.Assign(values[i].first, std::move(results[i])));
  return in.Exec(body);
}

StatusOr<Flow> UnsupportedStmt::Exec(Interpreter&) const {
  return absl::InvalidArgumentError(absl::StrCat("the tag '", tag, "' is not supported in chat templates"));
}

StatusOr<Flow> ScopeStmt::Exec(Interpreter& in) const {
  const Interpreter::ScopeHolder scope(&in, &in.scope());
  return in.Exec(body);
}

StatusOr<Flow> MacroStmt::Exec(Interpreter& in) const {
  in.scope().Set(macro.name, in.MakeMacro(&macro));
  return Flow::kNext;
}

StatusOr<Flow> CallBlockStmt::Exec(Interpreter& in) const {
  const Value body = in.MakeMacro(&caller);
  ASSIGN_OR_RETURN(const Value result, static_cast<const CallExpr&>(*call).EvalWithCaller(in, &body));
  ASSIGN_OR_RETURN(const Text text, ToText(result, &in.budget()));
  RETURN_IF_ERROR(in.Emit(text));
  return Flow::kNext;
}

}  // namespace coterie::jinja
