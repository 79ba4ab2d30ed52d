#include "model/grammar/constraint_grammar.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "common/utf8.h"
#include "model/grammar/char_set.h"
#include "model/grammar/regex_grammar.h"
#include "model/grammar/schema_grammar.h"

namespace coterie::grammar {
namespace {

Status CheckSize(std::string_view what, size_t n_bytes) {
  if (n_bytes <= kMaxConstraintBytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(what), " of ", n_bytes, " bytes; at most ", kMaxConstraintBytes, " are served"));
}

StatusOr<std::string> ChoiceGrammar(const std::vector<std::string>& choices) {
  if (choices.empty()) return absl::InvalidArgumentError("a choice among nothing; give at least one text");
  if (choices.size() > kMaxChoices) {
    return absl::InvalidArgumentError(
        absl::StrCat("a choice among ", choices.size(), " texts; at most ", kMaxChoices, " are served"));
  }
  std::vector<std::string> literals;
  size_t n_bytes = 0;
  for (const std::string& choice : choices) {
    n_bytes += choice.size();
    RETURN_IF_ERROR(CheckSize("choices", n_bytes));
    if (choice.empty() || !IsWellFormed(choice) || choice.find('\0') != std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat("choice ", literals.size() + 1, " is ", Quoted(choice),
                       "; each is text in UTF-8, not empty and without U+0000"));
    }
    literals.push_back(Literal(choice));
  }
  return absl::StrCat("root ::= ", absl::StrJoin(literals, " | "), "\n");
}

}  // namespace

StatusOr<std::string> ConstraintGrammar(const Constraint& constraint) {
  switch (constraint.kind) {
    case Constraint::Kind::kNone:
      return absl::InvalidArgumentError("no constraint");
    case Constraint::Kind::kJsonSchema:
      RETURN_IF_ERROR(CheckSize("a JSON schema", constraint.text.size()));
      return SchemaGrammar(constraint.text);
    case Constraint::Kind::kRegex: {
      ASSIGN_OR_RETURN(const std::string body, RegexGrammar(constraint.text, RegexText::kPlain));
      if (body == "\"\"") return absl::InvalidArgumentError("a regex that matches the empty text alone");
      return absl::StrCat("root ::= ", body, "\n");
    }
    case Constraint::Kind::kChoice:
      return ChoiceGrammar(constraint.choices);
  }
  return absl::InternalError("no such constraint");
}

}  // namespace coterie::grammar
