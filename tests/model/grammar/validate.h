#ifndef COTERIE_TESTS_MODEL_GRAMMAR_VALIDATE_H_
#define COTERIE_TESTS_MODEL_GRAMMAR_VALIDATE_H_

#include <string>

#include "common/json.h"

namespace coterie {

// Why `value` is not valid against `schema`; empty where it is. JSON Schema 2020-12 as the standard says, for
// the keywords that are served, independently of what makes grammars of them.
std::string WhyInvalid(const Json& value, const Json& schema, const Json& root);

}  // namespace coterie

#endif  // COTERIE_TESTS_MODEL_GRAMMAR_VALIDATE_H_
