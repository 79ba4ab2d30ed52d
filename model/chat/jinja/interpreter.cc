#include "model/chat/jinja/interpreter.h"

#include "model/chat/jinja/unicode.h"

namespace coterie::jinja {

const Value* Scope::Find(std::string_view name) const {
  for (const Scope* scope = this; scope; scope = scope->parent) {
    for (const auto& [key, value] : scope->values) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::Set(std::string_view name, Value value) {
  for (auto& [key, old] : values) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  values.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Limits& limits, absl::Time now, absl::TimeZone time_zone)
    : budget_(limits), now_(now), time_zone_(time_zone) {}

Interpreter::ScopeHolder::ScopeHolder(Interpreter* in, Scope* parent)
    : in_(in), outer_(in->scope_), n_scopes_(in->scopes_.size()), n_scope_users_(in->n_scope_users_) {
  in_->scopes_.emplace_back();
  in_->scopes_.back().parent = parent;
  in_->scope_ = &in_->scopes_.back();
}

Interpreter::ScopeHolder::~ScopeHolder() {
  in_->scope_ = outer_;
  if (in_->n_scope_users_ == n_scope_users_) {
    while (in_->scopes_.size() > n_scopes_) in_->scopes_.pop_back();
  }
}

StatusOr<Text> Interpreter::Render(const Body& body, std::vector<std::pair<std::string, Value>> variables) {
  const ScopeHolder globals(this, nullptr);
  scope_->values = std::move(variables);
  const ScopeHolder top(this, scope_);
  top_scope_ = scope_;
  Text out;
  out_ = &out;
  const StatusOr<Flow> flow = Exec(body);
  out_ = nullptr;
  if (!flow.ok()) return flow.status();
  if (out.size() > limits().output_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the rendered prompt has ", out.size(), " bytes, the limit is ", limits().output_bytes));
  }
  return out;
}

Status Interpreter::Emit(const Text& text) {
  RETURN_IF_ERROR(budget_.Bytes(text.size()));
  out_->Append(text);
  return absl::OkStatus();
}

StatusOr<Flow> Interpreter::Exec(const Body& body) {
  for (const StmtPtr& statement : body) {
    if (const Status status = budget_.Step(); !status.ok()) return AtLine(statement->line, status);
    StatusOr<Flow> flow = statement->Exec(*this);
    if (!flow.ok()) return AtLine(statement->line, flow.status());
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

StatusOr<Interpreter::Captured> Interpreter::Capture(const Body& body) {
  const ScopeHolder scope(this, scope_);
  Captured captured;
  Text* const outer = std::exchange(out_, &captured.text);
  const StatusOr<Flow> flow = Exec(body);
  out_ = outer;
  if (!flow.ok()) return flow.status();
  captured.flow = *flow;
  return captured;
}

Status Interpreter::Assign(const Target& target, Value value) {
  if (target.is_tuple) {
    ASSIGN_OR_RETURN(const Value list, Iterate(value));
    const std::vector<Value>& items = list.list()->items;
    if (items.size() != target.unpack.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("cannot unpack ", items.size(), " values into ", target.unpack.size(), " names"));
    }
    for (size_t i = 0; i < items.size(); ++i) RETURN_IF_ERROR(Assign(target.unpack[i], items[i]));
    return absl::OkStatus();
  }
  if (target.attribute.empty()) {
    scope_->Set(target.name, std::move(value));
    return absl::OkStatus();
  }
  const Value* object = scope_->Find(target.name);
  if (!object || !object->As<Namespace*>()) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot assign to '", target.name, ".", target.attribute, "': '", target.name,
                     "' is no namespace (values are immutable; make one with namespace())"));
  }
  if (target.attribute[0] == '_') {
    return absl::InvalidArgumentError(
        absl::StrCat("the namespace attribute '", target.attribute, "' may not start with an underscore"));
  }
  (*object->As<Namespace*>())->attributes.Set(target.attribute, std::move(value));
  return absl::OkStatus();
}

// **value of a call.
Status Interpreter::AddKeywords(const Value& value, std::vector<std::pair<std::string, Value>>* keyword) {
  if (const auto* undefined = value.As<Value::Undefined>())
    return absl::InvalidArgumentError(*undefined->reason);
  if (!value.dict()) {
    return absl::InvalidArgumentError(absl::StrCat("'**' needs a dict, got ", ToAbsl(value.TypeName())));
  }
  RETURN_IF_ERROR(budget_.Elements(value.dict()->items().size() * 8));
  for (const auto& [key, item] : value.dict()->items()) {
    if (!key.text()) return absl::InvalidArgumentError("the names of arguments behind '**' must be strings");
    RETURN_IF_ERROR(budget_.Step(1 + keyword->size() / 8));
    for (const auto& [name, unused] : *keyword) {
      if (name == key.text()->bytes()) {
        return absl::InvalidArgumentError(absl::StrCat("the argument '", name, "' is given twice"));
      }
    }
    keyword->emplace_back(key.text()->bytes(), item);
  }
  return absl::OkStatus();
}

StatusOr<Args> Interpreter::EvalArguments(const Arguments& arguments) {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keyword;
  for (const ExprPtr& e : arguments.positional) {
    ASSIGN_OR_RETURN(Value value, e->Eval(*this));
    positional.push_back(std::move(value));
  }
  for (const auto& [name, e] : arguments.keyword) {
    ASSIGN_OR_RETURN(Value value, e->Eval(*this));
    keyword.emplace_back(name, std::move(value));
  }
  if (arguments.more_positional) {
    ASSIGN_OR_RETURN(const Value value, arguments.more_positional->Eval(*this));
    ASSIGN_OR_RETURN(const Value items, Iterate(value));
    RETURN_IF_ERROR(budget_.Elements(items.list()->items.size()));
    positional.insert(positional.end(), items.list()->items.begin(), items.list()->items.end());
  }
  if (arguments.more_keyword) {
    ASSIGN_OR_RETURN(const Value value, arguments.more_keyword->Eval(*this));
    RETURN_IF_ERROR(AddKeywords(value, &keyword));
  }
  return Args(std::move(positional), std::move(keyword));
}

StatusOr<Value> Interpreter::Call(const Value& callee, Args args, std::string_view name) {
  if (const auto* undefined = callee.As<Value::Undefined>())
    return absl::InvalidArgumentError(*undefined->reason);
  const auto* callable = callee.As<std::shared_ptr<const Callable>>();
  if (const auto* loop = callee.As<std::shared_ptr<Loop>>()) return CallLoop(*loop, std::move(args));
  if (const auto* cycler = callee.As<std::shared_ptr<Cycler>>(); cycler && (*cycler)->is_joiner) {
    RETURN_IF_ERROR(args.Done());
    return (*cycler)->position++ == 0 ? Value(Text()) : (*cycler)->items[0];
  }
  if (!callable) {
    return absl::InvalidArgumentError(
        absl::StrCat("a value of type ", ToAbsl(callee.TypeName()), " cannot be called"));
  }
  const std::shared_ptr<const Callable> held =
      *callable;  // an assignment in a macro may drop the caller's copy
  if (held->macro) return CallMacro(*held, std::move(args));
  StatusOr<Value> result = held->builtin->call(*this, held->self, args);
  return result.ok() ? result : Named("function", name, result.status());
}

Value Interpreter::MakeMacro(const MacroDefinition* macro) {
  KeepScopes();
  auto callable = std::make_shared<Callable>();
  callable->macro = macro;
  callable->scope = scope_;
  return Value(std::shared_ptr<const Callable>(std::move(callable)));
}

Value Interpreter::MakeNamespace(Namespace** out) {
  namespaces_.emplace_back();
  *out = &namespaces_.back();
  return Value(*out);
}

StatusOr<Value> Interpreter::MakeGenerator(std::vector<Value> items, Status end) {
  auto generator = std::make_shared<Generator>();
  for (const Value& item : items) generator->depth = std::max(generator->depth, item.depth() + 1);
  if (generator->depth > limits().depth) return List::Make(std::move(items), limits());  // which refuses it
  // A template out of budget ends at once, whether or not anybody reads so far.
  if (absl::IsResourceExhausted(end)) return end;
  generator->items = std::move(items);
  generator->end = std::move(end);
  return Value(std::move(generator));
}

Status Interpreter::BindParameters(const MacroDefinition& macro, Args& args) {
  const size_t n_positional = args.n_left();
  for (const auto& [name, fallback] : macro.parameters) {
    if (const Value* given = args.Next(name)) {
      scope_->Set(name, *given);
    } else if (fallback) {
      ASSIGN_OR_RETURN(Value value, fallback->Eval(*this));
      scope_->Set(name, std::move(value));
    } else {
      scope_->Set(name, Value::UndefinedBecause(absl::StrCat("parameter '", name, "' was not provided")));
    }
  }
  if (macro.uses_caller) {
    const Value* caller = nullptr;
    for (const auto& [name, value] : args.keyword()) {
      if (name == "caller") caller = &value;
    }
    scope_->Set("caller", caller ? *caller : Value::UndefinedBecause("No caller defined"));
  }
  if (macro.uses_varargs) {
    ASSIGN_OR_RETURN(Value rest, List::Make(args.TakeRest(), limits(), List::Flavour::kTuple));
    scope_->Set("varargs", std::move(rest));
  }
  DictBuilder extra;
  for (const auto& [name, value] : args.keyword()) {
    bool known = macro.uses_caller && name == "caller";
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      if (macro.parameters[i].first != name) continue;
      known = true;
      if (i < n_positional)
        return absl::InvalidArgumentError(absl::StrCat("the argument '", name, "' is given twice"));
    }
    if (known) continue;
    if (!macro.uses_kwargs) {
      return absl::InvalidArgumentError(absl::StrCat("takes no argument '", name, "'"));
    }
    RETURN_IF_ERROR(extra.Set(name, value));
  }
  if (macro.uses_kwargs) {
    ASSIGN_OR_RETURN(Value rest, extra.Build(limits()));
    scope_->Set("kwargs", std::move(rest));
  }
  if (args.n_left() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("takes not more than ", macro.parameters.size(), " arguments"));
  }
  return absl::OkStatus();
}

StatusOr<Value> Interpreter::CallMacro(const Callable& callable, Args args) {
  const MacroDefinition& macro = *callable.macro;
  if (stack_depth_ + macro.depth > limits().stack_depth) {
    return absl::ResourceExhaustedError(absl::StrCat("calls of the macro '", macro.name,
                                                     "' nest deeper than the stack limit of ",
                                                     limits().stack_depth, " nodes"));
  }
  const ScopeHolder scope(this, callable.scope);
  Text text;
  Text* const outer = std::exchange(out_, &text);
  stack_depth_ += macro.depth;
  Status status = BindParameters(macro, args);
  if (!status.ok()) status = Named("macro", macro.name.empty() ? "caller" : macro.name, status);
  if (status.ok()) status = Exec(macro.body).status();
  stack_depth_ -= macro.depth;
  out_ = outer;
  if (!status.ok()) return status;
  return Value(std::move(text));
}

// loop(items): the body of a recursive loop over `items`, one level down.
StatusOr<Value> Interpreter::CallLoop(const std::shared_ptr<Loop>& outer, Args args) {
  if (!outer->recursive) {
    return absl::InvalidArgumentError("the loop must have the 'recursive' marker to be called recursively");
  }
  // The body may rebind `loop`. NOLINTNEXTLINE(performance-unnecessary-copy-initialization)
  const std::shared_ptr<Loop> held = outer;
  ASSIGN_OR_RETURN(const Value iterable, args.Need("iterable"));
  RETURN_IF_ERROR(args.Done());
  const ForStmt& statement = *held->recursive;
  if (stack_depth_ + statement.depth > limits().stack_depth) {
    return absl::ResourceExhaustedError(absl::StrCat("a recursive loop nests deeper than the stack limit of ",
                                                     limits().stack_depth, " nodes"));
  }
  const ScopeHolder scope(this, held->scope);
  Text text;
  Text* const out = std::exchange(out_, &text);
  stack_depth_ += statement.depth;
  const StatusOr<Flow> flow = statement.Run(*this, iterable, held->depth0 + 1);
  stack_depth_ -= statement.depth;
  out_ = out;
  if (!flow.ok()) return flow.status();
  return Value(std::move(text));
}

// True when the message is the template's own or says its line already.
bool Interpreter::HasPlace(const Status& status) const {
  return raised_ || status.message().substr(0, 5) == "line ";
}

Status Interpreter::Raise(std::string_view message) {
  raised_ = true;
  return absl::InvalidArgumentError(ToAbsl(message));
}

Status Interpreter::Named(std::string_view kind, std::string_view name, const Status& status) const {
  if (HasPlace(status)) return status;
  return Annotate(status, absl::StrCat(ToAbsl(kind), " '", ToAbsl(name), "'"));
}

Status Interpreter::AtLine(int line, const Status& status) const {
  if (HasPlace(status)) return status;
  return Status(status.code(), absl::StrCat("line ", line, ": ", status.message()));
}

}  // namespace coterie::jinja
