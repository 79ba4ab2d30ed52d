#include "model/chat/jinja/expression_parser.h"

namespace coterie::jinja {

Token ExpressionParser::Take() {
  Token token = tokens_[position_];
  if (position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool ExpressionParser::SkipName(std::string_view name) {
  if (!Current().IsName(name)) return false;
  Take();
  return true;
}

bool ExpressionParser::SkipOperator(std::string_view spelling) {
  if (!Current().IsOperator(spelling)) return false;
  Take();
  return true;
}

Status ExpressionParser::ExpectOperator(std::string_view spelling) {
  return SkipOperator(spelling) ? absl::OkStatus() : Unexpected(absl::StrCat("'", ToAbsl(spelling), "'"));
}

StatusOr<std::string> ExpressionParser::ExpectName(std::string_view what) {
  if (Current().kind != Token::Kind::kName) return Unexpected(what);
  return Take().text;
}

Status ExpressionParser::Expect(Token::Kind kind, std::string_view what) {
  if (Current().kind != kind) return Unexpected(what);
  Take();
  return absl::OkStatus();
}

Status ExpressionParser::Error(int line, std::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat("line ", line, ": ", ToAbsl(message)));
}

Status ExpressionParser::Unexpected(std::string_view wanted) const {
  return Error(Current().line, absl::StrCat("expected ", ToAbsl(wanted), ", got ", Current().Describe()));
}

Status ExpressionParser::DeepenTo(int* depth, int child_depth, int line) const {
  *depth = std::max(*depth, child_depth + 1);
  if (*depth <= limits_.depth) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("line ", line, ": the template nests deeper than the limit of ", limits_.depth));
}

Status ExpressionParser::CheckNesting() const {
  int depth = 0;
  return DeepenTo(&depth, nesting_, Current().line);
}

StatusOr<ExprPtr> ExpressionParser::TupleOrExpression(bool inline_if) {
  const int line = Current().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  const auto ends = [&] {
    return Current().kind == Token::Kind::kVariableEnd || Current().kind == Token::Kind::kBlockEnd ||
           Current().IsOperator(")");
  };
  while (!ends()) {
    ASSIGN_OR_RETURN(ExprPtr item, inline_if ? Conditional() : Logic(false));
    items.push_back(std::move(item));
    if (!SkipOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && items.size() == 1) return std::move(items[0]);
  if (items.empty() && !Current().IsOperator(")")) return Unexpected("an expression");
  auto tuple = std::make_unique<ListExpr>(line);
  tuple->is_tuple = true;
  for (const ExprPtr& item : items) RETURN_IF_ERROR(Deepen(&tuple->depth, item, line));
  tuple->items = std::move(items);
  return ExprPtr(std::move(tuple));
}

StatusOr<ExprPtr> ExpressionParser::Conditional() {
  const Nesting nesting(&nesting_);
  RETURN_IF_ERROR(CheckNesting());
  int line = Current().line;
  ASSIGN_OR_RETURN(ExprPtr expr, Logic(false));
  while (SkipName("if")) {
    auto node = std::make_unique<ConditionalExpr>(line);
    ASSIGN_OR_RETURN(node->condition, Logic(false));
    if (SkipName("else")) {
      ASSIGN_OR_RETURN(node->otherwise, Conditional());
    }
    node->then = std::move(expr);
    for (const ExprPtr* child : {&node->condition, &node->then, &node->otherwise}) {
      RETURN_IF_ERROR(Deepen(&node->depth, *child, line));
    }
    expr = std::move(node);
    line = Current().line;
  }
  return expr;
}

StatusOr<ExprPtr> ExpressionParser::Logic(bool is_and) {
  const int line = Current().line;
  ASSIGN_OR_RETURN(ExprPtr left, is_and ? Not() : Logic(true));
  while (SkipName(is_and ? "and" : "or")) {
    auto node = std::make_unique<LogicExpr>(line, is_and);
    ASSIGN_OR_RETURN(node->right, is_and ? Not() : Logic(true));
    node->left = std::move(left);
    RETURN_IF_ERROR(Deepen(&node->depth, node->left, line));
    RETURN_IF_ERROR(Deepen(&node->depth, node->right, line));
    left = std::move(node);
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::Not() {
  const int line = Current().line;
  if (!SkipName("not")) return Comparison();
  const Nesting nesting(&nesting_);
  RETURN_IF_ERROR(CheckNesting());
  auto node = std::make_unique<UnaryExpr>(line, UnaryExpr::Op::kNot);
  ASSIGN_OR_RETURN(node->operand, Not());
  RETURN_IF_ERROR(Deepen(&node->depth, node->operand, line));
  return ExprPtr(std::move(node));
}

StatusOr<ExprPtr> ExpressionParser::Comparison() {
  using Op = CompareExpr::Op;
  const int line = Current().line;
  ASSIGN_OR_RETURN(ExprPtr first, Sum());
  std::unique_ptr<CompareExpr> node;
  while (true) {
    static constexpr std::pair<std::string_view, Op> kOperators[] = {
        {"==", Op::kEqual},        {"!=", Op::kNotEqual}, {"<=", Op::kLessEqual},
        {">=", Op::kGreaterEqual}, {"<", Op::kLess},      {">", Op::kGreater}};
    const Op* op = nullptr;
    for (const auto& [spelling, meaning] : kOperators) {
      if (Current().IsOperator(spelling)) op = &meaning;
    }
    static constexpr Op kIn = Op::kIn, kNotIn = Op::kNotIn;
    if (Current().IsName("in")) op = &kIn;
    if (Current().IsName("not") && Ahead().IsName("in")) {
      op = &kNotIn;
      Take();
    }
    if (!op) break;
    Take();
    if (!node) node = std::make_unique<CompareExpr>(line);
    ASSIGN_OR_RETURN(ExprPtr operand, Sum());
    RETURN_IF_ERROR(Deepen(&node->depth, operand, line));
    node->rest.emplace_back(*op, std::move(operand));
  }
  if (!node) return first;
  RETURN_IF_ERROR(Deepen(&node->depth, first, line));
  node->first = std::move(first);
  return ExprPtr(std::move(node));
}

StatusOr<ExprPtr> ExpressionParser::Binary(BinaryExpr::Op op, int line, ExprPtr left, ExprPtr right) const {
  auto node = std::make_unique<BinaryExpr>(line, op);
  RETURN_IF_ERROR(Deepen(&node->depth, left, line));
  RETURN_IF_ERROR(Deepen(&node->depth, right, line));
  node->left = std::move(left);
  node->right = std::move(right);
  return ExprPtr(std::move(node));
}

StatusOr<ExprPtr> ExpressionParser::Sum() {
  ASSIGN_OR_RETURN(ExprPtr left, Concat());
  while (Current().IsOperator("+") || Current().IsOperator("-")) {
    const Token op = Take();
    ASSIGN_OR_RETURN(ExprPtr right, Concat());
    ASSIGN_OR_RETURN(left, Binary(op.text == "+" ? BinaryExpr::Op::kAdd : BinaryExpr::Op::kSubtract, op.line,
                                  std::move(left), std::move(right)));
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::Concat() {
  const int line = Current().line;
  ASSIGN_OR_RETURN(ExprPtr first, Product());
  if (!Current().IsOperator("~")) return first;
  auto node = std::make_unique<ConcatExpr>(line);
  node->parts.push_back(std::move(first));
  while (SkipOperator("~")) {
    ASSIGN_OR_RETURN(ExprPtr part, Product());
    node->parts.push_back(std::move(part));
  }
  for (const ExprPtr& part : node->parts) RETURN_IF_ERROR(Deepen(&node->depth, part, line));
  return ExprPtr(std::move(node));
}

StatusOr<ExprPtr> ExpressionParser::Product() {
  using Op = BinaryExpr::Op;
  ASSIGN_OR_RETURN(ExprPtr left, Power());
  while (true) {
    const Token& token = Current();
    const int line = token.line;
    Op op;
    if (token.IsOperator("*")) {
      op = Op::kMultiply;
    } else if (token.IsOperator("/")) {
      op = Op::kDivide;
    } else if (token.IsOperator("//")) {
      op = Op::kFloorDivide;
    } else if (token.IsOperator("%")) {
      op = Op::kModulo;
    } else {
      return left;
    }
    Take();
    ASSIGN_OR_RETURN(ExprPtr right, Power());
    ASSIGN_OR_RETURN(left, Binary(op, line, std::move(left), std::move(right)));
  }
}

StatusOr<ExprPtr> ExpressionParser::Power() {
  ASSIGN_OR_RETURN(ExprPtr left, Unary(true));
  while (Current().IsOperator("**")) {
    const int line = Take().line;
    ASSIGN_OR_RETURN(ExprPtr right, Unary(true));
    ASSIGN_OR_RETURN(left, Binary(BinaryExpr::Op::kPower, line, std::move(left), std::move(right)));
  }
  return left;
}

StatusOr<ExprPtr> ExpressionParser::Unary(bool with_filters) {
  const Nesting nesting(&nesting_);
  RETURN_IF_ERROR(CheckNesting());
  const int line = Current().line;
  ExprPtr expr;
  if (Current().IsOperator("-") || Current().IsOperator("+")) {
    auto node =
        std::make_unique<UnaryExpr>(line, Take().text == "-" ? UnaryExpr::Op::kMinus : UnaryExpr::Op::kPlus);
    ASSIGN_OR_RETURN(node->operand, Unary(false));
    RETURN_IF_ERROR(Deepen(&node->depth, node->operand, line));
    expr = std::move(node);
  } else {
    ASSIGN_OR_RETURN(expr, Primary());
  }
  ASSIGN_OR_RETURN(expr, Postfix(std::move(expr)));
  return with_filters ? FiltersAndTests(std::move(expr)) : std::move(expr);
}

StatusOr<ExprPtr> ExpressionParser::Primary() {
  const Token& token = Current();
  const int line = token.line;
  if (token.kind == Token::Kind::kName) {
    std::string name = Take().text;
    if (name == "true" || name == "True") return ExprPtr(std::make_unique<ConstExpr>(line, Value(true)));
    if (name == "false" || name == "False") return ExprPtr(std::make_unique<ConstExpr>(line, Value(false)));
    if (name == "none" || name == "None") return ExprPtr(std::make_unique<ConstExpr>(line, Value()));
    if (macro_) {
      macro_->uses_varargs |= name == "varargs";
      macro_->uses_kwargs |= name == "kwargs";
      macro_->uses_caller |= name == "caller";
    }
    return ExprPtr(std::make_unique<NameExpr>(line, std::move(name)));
  }
  if (token.kind == Token::Kind::kString) {
    std::string text;  // neighbours join, as in Python
    while (Current().kind == Token::Kind::kString) text += Take().text;
    return ExprPtr(std::make_unique<ConstExpr>(line, Value(Text::Trusted(text))));
  }
  if (token.kind == Token::Kind::kInteger) {
    return ExprPtr(std::make_unique<ConstExpr>(line, Value(Take().integer)));
  }
  if (token.kind == Token::Kind::kFloat)
    return ExprPtr(std::make_unique<ConstExpr>(line, Value(Take().number)));
  if (SkipOperator("(")) {
    ASSIGN_OR_RETURN(ExprPtr expr, TupleOrExpression(true));
    RETURN_IF_ERROR(ExpectOperator(")"));
    return expr;
  }
  if (SkipOperator("[")) return ListLiteral();
  if (SkipOperator("{")) return DictLiteral();
  return Unexpected("an expression");
}

StatusOr<ExprPtr> ExpressionParser::ListLiteral() {
  auto node = std::make_unique<ListExpr>(Current().line);
  while (!SkipOperator("]")) {
    if (!node->items.empty()) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (SkipOperator("]")) break;
    }
    ASSIGN_OR_RETURN(ExprPtr item, Expression());
    RETURN_IF_ERROR(Deepen(&node->depth, item, item->line));
    node->items.push_back(std::move(item));
  }
  return ExprPtr(std::move(node));
}

StatusOr<ExprPtr> ExpressionParser::DictLiteral() {
  auto node = std::make_unique<DictExpr>(Current().line);
  while (!SkipOperator("}")) {
    if (!node->items.empty()) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (SkipOperator("}")) break;
    }
    ASSIGN_OR_RETURN(ExprPtr key, Expression());
    RETURN_IF_ERROR(ExpectOperator(":"));
    ASSIGN_OR_RETURN(ExprPtr value, Expression());
    RETURN_IF_ERROR(Deepen(&node->depth, key, key->line));
    RETURN_IF_ERROR(Deepen(&node->depth, value, value->line));
    node->items.emplace_back(std::move(key), std::move(value));
  }
  return ExprPtr(std::move(node));
}

StatusOr<ExprPtr> ExpressionParser::Postfix(ExprPtr expr) {
  while (true) {
    if (Current().IsOperator(".") || Current().IsOperator("[")) {
      ASSIGN_OR_RETURN(expr, Subscript(std::move(expr)));
    } else if (Current().IsOperator("(")) {
      ASSIGN_OR_RETURN(expr, Call(std::move(expr)));
    } else {
      return expr;
    }
  }
}

StatusOr<ExprPtr> ExpressionParser::Subscript(ExprPtr object) {
  const int line = Current().line;
  if (SkipOperator(".")) {
    if (Current().kind == Token::Kind::kName) {
      auto node = std::make_unique<AttributeExpr>(line);
      node->name = Take().text;
      RETURN_IF_ERROR(Deepen(&node->depth, object, line));
      node->object = std::move(object);
      return ExprPtr(std::move(node));
    }
    if (Current().kind != Token::Kind::kInteger) return Unexpected("a name or a number behind '.'");
    auto node = std::make_unique<ItemExpr>(line);
    node->index = std::make_unique<ConstExpr>(line, Value(Take().integer));
    RETURN_IF_ERROR(Deepen(&node->depth, object, line));
    node->object = std::move(object);
    return ExprPtr(std::move(node));
  }
  RETURN_IF_ERROR(ExpectOperator("["));
  ExprPtr parts[3];
  int n_colons = 0;
  while (true) {
    if (Current().IsOperator("]")) break;
    if (Current().IsOperator(":")) {
      if (++n_colons > 2) return Unexpected("']'");
      Take();
      continue;
    }
    if (parts[n_colons]) return Unexpected("']'");
    ASSIGN_OR_RETURN(parts[n_colons], Expression());
  }
  if (n_colons == 0 && !parts[0]) return Unexpected("an index");
  Take();
  if (n_colons == 0) {
    auto node = std::make_unique<ItemExpr>(line);
    RETURN_IF_ERROR(Deepen(&node->depth, object, line));
    RETURN_IF_ERROR(Deepen(&node->depth, parts[0], line));
    node->object = std::move(object);
    node->index = std::move(parts[0]);
    return ExprPtr(std::move(node));
  }
  auto node = std::make_unique<SliceExpr>(line);
  RETURN_IF_ERROR(Deepen(&node->depth, object, line));
  for (const ExprPtr& part : parts) RETURN_IF_ERROR(Deepen(&node->depth, part, line));
  node->object = std::move(object);
  node->begin = std::move(parts[0]);
  node->end = std::move(parts[1]);
  node->step = std::move(parts[2]);
  return ExprPtr(std::move(node));
}

StatusOr<Arguments> ExpressionParser::CallArguments() {
  Arguments arguments;
  const int line = Current().line;
  RETURN_IF_ERROR(ExpectOperator("("));
  bool first = true;
  while (!SkipOperator(")")) {
    if (!first) {
      RETURN_IF_ERROR(ExpectOperator(","));
      if (SkipOperator(")")) break;
    }
    first = false;
    if (Current().IsOperator("*") || Current().IsOperator("**")) {
      // *list once, then **dict once, and nothing positional behind either.
      ExprPtr& more = Take().text == "*" ? arguments.more_positional : arguments.more_keyword;
      if (more || arguments.more_keyword) return Error(line, "arguments are unpacked twice");
      ASSIGN_OR_RETURN(more, Expression());
    } else if (Current().kind == Token::Kind::kName && Ahead().IsOperator("=")) {
      std::string name = Take().text;
      Take();
      for (const auto& [other, unused] : arguments.keyword) {
        if (other == name) return Error(line, absl::StrCat("the argument '", name, "' is given twice"));
      }
      ASSIGN_OR_RETURN(ExprPtr value, Expression());
      arguments.keyword.emplace_back(std::move(name), std::move(value));
    } else {
      if (!arguments.keyword.empty() || arguments.more_positional || arguments.more_keyword) {
        return Error(line, "a positional argument follows a named one");
      }
      ASSIGN_OR_RETURN(ExprPtr value, Expression());
      arguments.positional.push_back(std::move(value));
    }
  }
  return arguments;
}

StatusOr<ExprPtr> ExpressionParser::Call(ExprPtr callee) {
  auto node = std::make_unique<CallExpr>(Current().line);
  ASSIGN_OR_RETURN(node->arguments, CallArguments());
  RETURN_IF_ERROR(Deepen(&node->depth, callee, node->line));
  RETURN_IF_ERROR(DeepenTo(&node->depth, DeepestArgument(node->arguments), node->line));
  node->callee = std::move(callee);
  return ExprPtr(std::move(node));
}

}  // namespace coterie::jinja
