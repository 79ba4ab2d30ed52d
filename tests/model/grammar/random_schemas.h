#ifndef COTERIE_TESTS_MODEL_GRAMMAR_RANDOM_SCHEMAS_H_
#define COTERIE_TESTS_MODEL_GRAMMAR_RANDOM_SCHEMAS_H_

#include <random>
#include <string>
#include <vector>

#include "common/json.h"

namespace coterie {

// Every construct that is claimed (docs/http.md).
const std::vector<std::string>& SchemaConstructs();
// A schema with the construct in it, among others.
Json RandomSchema(const std::string& construct, std::mt19937_64* random);

}  // namespace coterie

#endif  // COTERIE_TESTS_MODEL_GRAMMAR_RANDOM_SCHEMAS_H_
