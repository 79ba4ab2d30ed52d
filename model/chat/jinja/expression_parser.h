#ifndef COTERIE_MODEL_CHAT_JINJA_EXPRESSION_PARSER_H_
#define COTERIE_MODEL_CHAT_JINJA_EXPRESSION_PARSER_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "model/chat/jinja/ast.h"
#include "model/chat/jinja/lexer.h"
#include "model/chat/jinja/limits.h"

namespace coterie::jinja {

// The expression half of the parser: recursive descent in jinja2's order of precedence, from the loosest:
// inline if, or, and, not, comparisons and in, + -, ~, * / // %, **, unary, postfix, filters and tests.
class ExpressionParser {
 protected:
  ExpressionParser(std::vector<Token> tokens, const Limits& limits)
      : tokens_(std::move(tokens)), limits_(limits) {}

  const Token& Current() const { return tokens_[position_]; }
  const Token& Ahead() const { return tokens_[std::min(position_ + 1, tokens_.size() - 1)]; }
  Token Take();
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view spelling);
  Status ExpectOperator(std::string_view spelling);
  StatusOr<std::string> ExpectName(std::string_view what);
  Status Expect(Token::Kind kind, std::string_view what);
  Status Error(int line, std::string_view message) const;
  Status Unexpected(std::string_view wanted) const;

  StatusOr<ExprPtr> Expression() { return Conditional(); }
  // One expression, or several separated by commas: a tuple. Inline if is left out where the statement has
  // its own.
  StatusOr<ExprPtr> TupleOrExpression(bool inline_if);
  StatusOr<Arguments> CallArguments();
  // A chain of `| name(arguments)` over `input` (null: over a block's body). `at_name`: the first pipe is
  // implied.
  StatusOr<ExprPtr> FilterChain(ExprPtr input, bool at_name);

  // Deepens *depth below `child`; refuses trees beyond the limit.
  template <typename Child>
  Status Deepen(int* depth, const Child& child, int line) const {
    return child ? DeepenTo(depth, child->depth, line) : absl::OkStatus();
  }
  Status DeepenTo(int* depth, int child_depth, int line) const;
  static int DeepestArgument(const Arguments& arguments);

  // Counts the recursion of the parser itself.
  class Nesting {
   public:
    explicit Nesting(int* level) : level_(level) { ++*level_; }
    ~Nesting() { --*level_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    int* level_;
  };
  Status CheckNesting() const;

  std::vector<Token> tokens_;
  const Limits& limits_;
  size_t position_ = 0;
  int nesting_ = 0;
  MacroDefinition* macro_ = nullptr;  // being parsed: notes which of varargs, kwargs, caller it uses

 private:
  StatusOr<std::string> DottedName(std::string_view what);
  StatusOr<ExprPtr> Conditional();
  StatusOr<ExprPtr> Logic(bool is_and);
  StatusOr<ExprPtr> Not();
  StatusOr<ExprPtr> Comparison();
  StatusOr<ExprPtr> Sum();
  StatusOr<ExprPtr> Concat();
  StatusOr<ExprPtr> Product();
  StatusOr<ExprPtr> Power();
  StatusOr<ExprPtr> Unary(bool with_filters);
  StatusOr<ExprPtr> Primary();
  StatusOr<ExprPtr> Postfix(ExprPtr expr);
  StatusOr<ExprPtr> Subscript(ExprPtr object);
  StatusOr<ExprPtr> Call(ExprPtr callee);
  StatusOr<ExprPtr> FiltersAndTests(ExprPtr expr);
  StatusOr<ExprPtr> Test(ExprPtr input);
  StatusOr<ExprPtr> ListLiteral();
  StatusOr<ExprPtr> DictLiteral();
  StatusOr<ExprPtr> Binary(BinaryExpr::Op op, int line, ExprPtr left, ExprPtr right) const;
};

}  // namespace coterie::jinja

#endif  // COTERIE_MODEL_CHAT_JINJA_EXPRESSION_PARSER_H_
