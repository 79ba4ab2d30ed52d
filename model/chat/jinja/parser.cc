#include "model/chat/jinja/parser.h"

#include <set>

#include "model/chat/jinja/expression_parser.h"
#include "model/chat/jinja/lexer.h"

namespace coterie::jinja {
namespace {

using Kind = Token::Kind;

// The statement half of the parser.
class Parser : public ExpressionParser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits) : ExpressionParser(std::move(tokens), limits) {}

  StatusOr<Body> Run() {
    int unused = 1;
    return ParseBody({}, &unused);
  }

 private:
  // Until a tag named in `ends` (its name is then the current token) or, without ends, the end of the
  // template. *depth is deepened below every statement.
  StatusOr<Body> ParseBody(std::initializer_list<std::string_view> ends, int* depth) {
    const Nesting nesting(&nesting_);
    RETURN_IF_ERROR(CheckNesting());
    const int opened = position_ > 0 ? tokens_[position_ - 1].line : 1;  // where the opening tag ends
    Body body;
    while (true) {
      const int line = Current().line;
      StmtPtr statement;
      if (Current().kind == Kind::kEnd) {
        if (ends.size() == 0) return body;
        return Error(line, absl::StrCat("the template ends where '", ToAbsl(*(ends.end() - 1)),
                                        "' is missing for the block opened in line ", opened));
      } else if (Current().kind == Kind::kData) {
        statement = std::make_unique<TextStmt>(line, Text::Trusted(Take().text));
      } else if (Current().kind == Kind::kVariableBegin) {
        Take();
        auto output = std::make_unique<OutputStmt>(line);
        ASSIGN_OR_RETURN(ExprPtr value, TupleOrExpression(true));
        RETURN_IF_ERROR(Deepen(&output->depth, value, line));
        output->values.push_back(std::move(value));
        RETURN_IF_ERROR(Expect(Kind::kVariableEnd, "'}}'"));
        statement = std::move(output);
      } else {
        RETURN_IF_ERROR(Expect(Kind::kBlockBegin, "a tag"));
        for (const std::string_view end : ends) {
          if (Current().IsName(end)) return body;
        }
        ASSIGN_OR_RETURN(statement, Statement());
        RETURN_IF_ERROR(Expect(Kind::kBlockEnd, "'%}'"));
      }
      RETURN_IF_ERROR(Deepen(depth, statement, line));
      body.push_back(std::move(statement));
    }
  }

  // A body between the end of the opening tag and `end`, whose name is taken too.
  StatusOr<Body> Block(std::string_view end, int* depth) {
    SkipOperator(":");
    RETURN_IF_ERROR(Expect(Kind::kBlockEnd, "'%}'"));
    ASSIGN_OR_RETURN(Body body, ParseBody({end}, depth));
    Take();
    return body;
  }

  StatusOr<StmtPtr> Statement() {
    const int line = Current().line;
    ASSIGN_OR_RETURN(const std::string tag, ExpectName("the name of a tag"));
    if (tag == "if") return If(line);
    if (tag == "for") return For(line);
    if (tag == "set") return Set(line);
    if (tag == "macro") return Macro(line);
    if (tag == "call") return CallBlock(line);
    if (tag == "filter") return FilterBlock(line);
    if (tag == "with") return With(line);
    if (tag == "print") return Print(line);
    if (tag == "generation") return InScope("endgeneration", line);
    if (tag == "autoescape") return Autoescape(line);
    if (tag == "block") return BlockTag(line);
    if (tag == "break" || tag == "continue") {
      if (loops_ == 0) return Error(line, absl::StrCat("'", tag, "' stands outside of a loop"));
      return StmtPtr(
          std::make_unique<LoopControlStmt>(line, tag == "break" ? Flow::kBreak : Flow::kContinue));
    }
    // There is no other template to reach: jinja2 too compiles these, and fails where it comes to one.
    for (const std::string_view known : {"extends", "include", "import", "from"}) {
      if (tag == known) return Unsupported(tag, line);
    }
    return Error(line, absl::StrCat("unknown tag '", tag, "'"));
  }

  StatusOr<StmtPtr> InScope(std::string_view end, int line) {
    auto node = std::make_unique<ScopeStmt>(line);
    ASSIGN_OR_RETURN(node->body, Block(end, &node->depth));
    return StmtPtr(std::move(node));
  }

  StatusOr<StmtPtr> BlockTag(int line) {
    auto node = std::make_unique<BlockStmt>(line);
    ASSIGN_OR_RETURN(const std::string name, ExpectName("the name of a block"));
    if (!blocks_.insert(name).second) return Error(line, absl::StrCat("block '", name, "' defined twice"));
    node->scoped = SkipName("scoped");
    if (Current().IsName("required")) {
      return Error(line, "a required block cannot be had: there is no template that would fill it");
    }
    const int loops = std::exchange(loops_, 0);  // out of reach for break and continue
    ASSIGN_OR_RETURN(node->body, Block("endblock", &node->depth));
    loops_ = loops;
    SkipName(name);
    return StmtPtr(std::move(node));
  }

  // Prompts are no HTML: only switched off is it what a chat template can mean.
  StatusOr<StmtPtr> Autoescape(int line) {
    const bool off = Current().IsName("false") || Current().IsName("False");
    ASSIGN_OR_RETURN(const ExprPtr unused, Expression());
    ASSIGN_OR_RETURN(StmtPtr body, InScope("endautoescape", line));
    return off ? std::move(body) : StmtPtr(std::make_unique<UnsupportedStmt>(line, "autoescape"));
  }

  StatusOr<StmtPtr> Unsupported(const std::string& tag, int line) {
    while (Current().kind != Kind::kBlockEnd && Current().kind != Kind::kEnd) Take();
    return StmtPtr(std::make_unique<UnsupportedStmt>(line, tag));
  }

  StatusOr<StmtPtr> If(int line) {
    auto node = std::make_unique<IfStmt>(line);
    while (true) {
      ASSIGN_OR_RETURN(ExprPtr condition, TupleOrExpression(false));
      RETURN_IF_ERROR(Deepen(&node->depth, condition, line));
      SkipOperator(":");
      RETURN_IF_ERROR(Expect(Kind::kBlockEnd, "'%}'"));
      ASSIGN_OR_RETURN(Body body, ParseBody({"elif", "else", "endif"}, &node->depth));
      node->branches.emplace_back(std::move(condition), std::move(body));
      const Token next = Take();
      if (next.text == "elif") continue;
      if (next.text == "else") {
        ASSIGN_OR_RETURN(node->otherwise, Block("endif", &node->depth));
      }
      return StmtPtr(std::move(node));
    }
  }

  StatusOr<StmtPtr> For(int line) {
    auto node = std::make_unique<ForStmt>(line);
    ASSIGN_OR_RETURN(node->target, ParseTarget(false));
    if (!SkipName("in")) return Unexpected("'in'");
    ASSIGN_OR_RETURN(node->iterable, TupleOrExpression(false));
    RETURN_IF_ERROR(Deepen(&node->depth, node->iterable, line));
    if (SkipName("if")) {
      ASSIGN_OR_RETURN(node->filter, Expression());
      RETURN_IF_ERROR(Deepen(&node->depth, node->filter, line));
    }
    node->recursive = SkipName("recursive");
    SkipOperator(":");
    RETURN_IF_ERROR(Expect(Kind::kBlockEnd, "'%}'"));
    ++loops_;
    ASSIGN_OR_RETURN(node->body, ParseBody({"endfor", "else"}, &node->depth));
    --loops_;
    if (Take().text == "else") {
      ASSIGN_OR_RETURN(node->otherwise, Block("endfor", &node->depth));
    }
    return StmtPtr(std::move(node));
  }

  StatusOr<StmtPtr> Set(int line) {
    ASSIGN_OR_RETURN(Target target, ParseTarget(true));
    if (SkipOperator("=")) {
      auto node = std::make_unique<SetStmt>(line);
      node->target = std::move(target);
      ASSIGN_OR_RETURN(node->value, TupleOrExpression(true));
      RETURN_IF_ERROR(Deepen(&node->depth, node->value, line));
      return StmtPtr(std::move(node));
    }
    auto node = std::make_unique<SetBlockStmt>(line);
    node->target = std::move(target);
    ASSIGN_OR_RETURN(node->filter, FilterChain(nullptr, false));
    RETURN_IF_ERROR(Deepen(&node->depth, node->filter, line));
    ASSIGN_OR_RETURN(node->body, Block("endset", &node->depth));
    return StmtPtr(std::move(node));
  }

  StatusOr<StmtPtr> FilterBlock(int line) {
    auto node = std::make_unique<FilterBlockStmt>(line);
    ASSIGN_OR_RETURN(node->filter, FilterChain(nullptr, true));
    RETURN_IF_ERROR(Deepen(&node->depth, node->filter, line));
    ASSIGN_OR_RETURN(node->body, Block("endfilter", &node->depth));
    return StmtPtr(std::move(node));
  }

  StatusOr<StmtPtr> With(int line) {
    auto node = std::make_unique<WithStmt>(line);
    while (Current().kind != Kind::kBlockEnd) {
      if (!node->values.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      ASSIGN_OR_RETURN(Target target, SingleTarget(false));
      RETURN_IF_ERROR(ExpectOperator("="));
      ASSIGN_OR_RETURN(ExprPtr value, Expression());
      RETURN_IF_ERROR(Deepen(&node->depth, value, line));
      node->values.emplace_back(std::move(target), std::move(value));
    }
    ASSIGN_OR_RETURN(node->body, Block("endwith", &node->depth));
    return StmtPtr(std::move(node));
  }

  StatusOr<StmtPtr> Print(int line) {
    auto node = std::make_unique<OutputStmt>(line);
    while (Current().kind != Kind::kBlockEnd) {
      if (!node->values.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      ASSIGN_OR_RETURN(ExprPtr value, Expression());
      RETURN_IF_ERROR(Deepen(&node->depth, value, line));
      node->values.push_back(std::move(value));
    }
    return StmtPtr(std::move(node));
  }

  Status Signature(MacroDefinition* macro) {
    RETURN_IF_ERROR(ExpectOperator("("));
    while (!SkipOperator(")")) {
      if (!macro->parameters.empty()) RETURN_IF_ERROR(ExpectOperator(","));
      const int line = Current().line;
      ASSIGN_OR_RETURN(std::string name, ExpectName("the name of a parameter"));
      ExprPtr fallback;
      if (SkipOperator("=")) {
        ASSIGN_OR_RETURN(fallback, Expression());
        RETURN_IF_ERROR(Deepen(&macro->depth, fallback, line));
      } else if (!macro->parameters.empty() && macro->parameters.back().second) {
        return Error(line,
                     absl::StrCat("parameter '", name, "' without a default follows one with a default"));
      }
      macro->parameters.emplace_back(std::move(name), std::move(fallback));
    }
    return absl::OkStatus();
  }

  // Body of a macro or call block: loops outside are out of reach for break and continue.
  Status MacroBody(MacroDefinition* macro, std::string_view end) {
    MacroDefinition* const outer = std::exchange(macro_, macro);
    const int loops = std::exchange(loops_, 0);
    ASSIGN_OR_RETURN(macro->body, Block(end, &macro->depth));
    macro_ = outer;
    loops_ = loops;
    return absl::OkStatus();
  }

  StatusOr<StmtPtr> Macro(int line) {
    auto node = std::make_unique<MacroStmt>(line);
    ASSIGN_OR_RETURN(node->macro.name, ExpectName("the name of a macro"));
    RETURN_IF_ERROR(Signature(&node->macro));
    RETURN_IF_ERROR(MacroBody(&node->macro, "endmacro"));
    RETURN_IF_ERROR(DeepenTo(&node->depth, node->macro.depth, line));
    return StmtPtr(std::move(node));
  }

  StatusOr<StmtPtr> CallBlock(int line) {
    auto node = std::make_unique<CallBlockStmt>(line);
    if (Current().IsOperator("(")) RETURN_IF_ERROR(Signature(&node->caller));
    ASSIGN_OR_RETURN(node->call, Expression());
    if (!dynamic_cast<CallExpr*>(node->call.get()))
      return Error(line, "the tag 'call' needs a call of a macro");
    RETURN_IF_ERROR(Deepen(&node->depth, node->call, line));
    RETURN_IF_ERROR(MacroBody(&node->caller, "endcall"));
    RETURN_IF_ERROR(DeepenTo(&node->depth, node->caller.depth, line));
    return StmtPtr(std::move(node));
  }

  // One target, or several with commas between: a tuple.
  StatusOr<Target> ParseTarget(bool with_namespace) {
    ASSIGN_OR_RETURN(Target first, SingleTarget(with_namespace));
    if (!Current().IsOperator(",")) return first;
    Target tuple;
    tuple.is_tuple = true;
    tuple.unpack.push_back(std::move(first));
    while (SkipOperator(",")) {
      if (Current().kind != Kind::kName && !Current().IsOperator("(")) break;
      if (Current().IsName("in")) break;
      ASSIGN_OR_RETURN(Target next, SingleTarget(with_namespace));
      tuple.unpack.push_back(std::move(next));
    }
    return tuple;
  }

  StatusOr<Target> SingleTarget(bool with_namespace) {
    const Nesting nesting(&nesting_);
    RETURN_IF_ERROR(CheckNesting());
    if (SkipOperator("(")) {
      ASSIGN_OR_RETURN(Target inner, ParseTarget(with_namespace));
      RETURN_IF_ERROR(ExpectOperator(")"));
      return inner;
    }
    Target target;
    const int line = Current().line;
    ASSIGN_OR_RETURN(target.name, ExpectName("a name to assign to"));
    static constexpr std::string_view kConstants[] = {"true", "false", "none", "True", "False", "None"};
    for (const std::string_view constant : kConstants) {
      if (target.name == constant) return Error(line, absl::StrCat("cannot assign to '", target.name, "'"));
    }
    if (with_namespace && SkipOperator(".")) {
      ASSIGN_OR_RETURN(target.attribute, ExpectName("the attribute of a namespace"));
    }
    return target;
  }

  std::set<std::string> blocks_;
  int loops_ = 0;  // around the statement being parsed
};

}  // namespace

StatusOr<Body> Parse(std::string_view source, const Limits& limits) {
  if (source.size() > limits.template_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the template has ", source.size(), " bytes, the limit is ", limits.template_bytes));
  }
  ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens), limits).Run();
}

}  // namespace coterie::jinja
