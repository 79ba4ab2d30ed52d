#ifndef COTERIE_MODEL_GRAMMAR_CONSTRAINT_GRAMMAR_H_
#define COTERIE_MODEL_GRAMMAR_CONSTRAINT_GRAMMAR_H_

#include <string>

#include "common/constraint.h"
#include "common/status.h"

namespace coterie::grammar {

// The grammar of a constraint, as rules in EBNF of which the first is "root": what gateways check and workers
// compile. InvalidArgument saying what of it is not served, or which limit it passes.
StatusOr<std::string> ConstraintGrammar(const Constraint& constraint);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_CONSTRAINT_GRAMMAR_H_
