// The parser of what stands behind an expression: filters and tests.
#include "model/chat/jinja/builtins.h"
#include "model/chat/jinja/expression_parser.h"

namespace coterie::jinja {

int ExpressionParser::DeepestArgument(const Arguments& arguments) {
  int deepest = 0;
  for (const ExprPtr& e : arguments.positional) deepest = std::max(deepest, e->depth);
  for (const auto& [name, e] : arguments.keyword) deepest = std::max(deepest, e->depth);
  for (const ExprPtr* e : {&arguments.more_positional, &arguments.more_keyword}) {
    if (*e) deepest = std::max(deepest, (*e)->depth);
  }
  return deepest;
}

StatusOr<ExprPtr> ExpressionParser::FiltersAndTests(ExprPtr expr) {
  while (true) {
    if (Current().IsOperator("|")) {
      ASSIGN_OR_RETURN(expr, FilterChain(std::move(expr), false));
    } else if (Current().IsName("is")) {
      ASSIGN_OR_RETURN(expr, Test(std::move(expr)));
    } else if (Current().IsOperator("(")) {
      ASSIGN_OR_RETURN(expr, Call(std::move(expr)));
    } else {
      return expr;
    }
  }
}

StatusOr<std::string> ExpressionParser::DottedName(std::string_view what) {
  ASSIGN_OR_RETURN(std::string name, ExpectName(what));
  while (SkipOperator(".")) {
    ASSIGN_OR_RETURN(const std::string more, ExpectName(what));
    absl::StrAppend(&name, ".", more);
  }
  return name;
}

StatusOr<ExprPtr> ExpressionParser::FilterChain(ExprPtr input, bool at_name) {
  while (at_name || SkipOperator("|")) {
    at_name = false;
    const int line = Current().line;
    auto node = std::make_unique<FilterExpr>(line);
    ASSIGN_OR_RETURN(node->name, DottedName("the name of a filter"));
    node->filter = FindFilter(node->name);
    if (Current().IsOperator("(")) {
      ASSIGN_OR_RETURN(node->arguments, CallArguments());
    }
    RETURN_IF_ERROR(Deepen(&node->depth, input, line));
    RETURN_IF_ERROR(DeepenTo(&node->depth, DeepestArgument(node->arguments), line));
    node->input = std::move(input);
    input = std::move(node);
  }
  return input;
}

StatusOr<ExprPtr> ExpressionParser::Test(ExprPtr input) {
  const int line = Take().line;
  const bool negated = SkipName("not");
  auto node = std::make_unique<TestExpr>(line);
  ASSIGN_OR_RETURN(node->name, DottedName("the name of a test"));
  node->test = FindTest(node->name);
  const Token& next = Current();
  if (next.IsOperator("(")) {
    ASSIGN_OR_RETURN(node->arguments, CallArguments());
  } else if (next.IsName("is")) {
    return Error(line, "tests cannot be chained with 'is'");
  } else if (next.kind == Token::Kind::kString || next.kind == Token::Kind::kInteger ||
             next.kind == Token::Kind::kFloat || next.IsOperator("[") || next.IsOperator("{") ||
             (next.kind == Token::Kind::kName && !next.IsName("else") && !next.IsName("or") &&
              !next.IsName("and"))) {
    // One argument without parentheses: "is divisibleby 3".
    ASSIGN_OR_RETURN(ExprPtr argument, Primary());
    ASSIGN_OR_RETURN(argument, Postfix(std::move(argument)));
    node->arguments.positional.push_back(std::move(argument));
  }
  RETURN_IF_ERROR(Deepen(&node->depth, input, line));
  RETURN_IF_ERROR(DeepenTo(&node->depth, DeepestArgument(node->arguments), line));
  node->input = std::move(input);
  if (!negated) return ExprPtr(std::move(node));
  auto inverse = std::make_unique<UnaryExpr>(line, UnaryExpr::Op::kNot);
  RETURN_IF_ERROR(Deepen(&inverse->depth, node, line));
  inverse->operand = std::move(node);
  return ExprPtr(std::move(inverse));
}

}  // namespace coterie::jinja
