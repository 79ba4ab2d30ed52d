#ifndef COTERIE_MODEL_GRAMMAR_SCHEMA_GRAMMAR_H_
#define COTERIE_MODEL_GRAMMAR_SCHEMA_GRAMMAR_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie::grammar {

inline constexpr int kMaxSchemaDepth = 64;        // of the JSON that a schema is
inline constexpr size_t kMaxSchemaValues = 8000;  // scalars, arrays and objects of it
inline constexpr size_t kMaxSchemaNodes = 1500;   // schemas within the schema
inline constexpr size_t kMaxEnumValues = 1000;    // of all `enum`s together
inline constexpr int kMaxItemsBound = 1000;       // minItems, maxItems
inline constexpr int kMaxLengthBound = 5000;      // minLength, maxLength
// What lists and lengths come to once written out: a list of 100 objects of 10 properties is 1,000.
inline constexpr double kMaxSchemaSize = 50'000;

// The rules of a grammar, "root" the first, for JSON texts (RFC 8259) that are valid against the schema:
// compact, with a space behind ':' and ',', each object's properties in the order of the schema. Every such
// text is valid; not every valid text is one of them (docs/http.md, "Constrained answers", tells what is left
// out, and which keywords are served). InvalidArgument naming the place as a JSON pointer and the keyword
// that is not served, is malformed or past a limit; a schema that no finite text fulfils is refused as well.
StatusOr<std::string> SchemaGrammar(std::string_view schema);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_SCHEMA_GRAMMAR_H_
