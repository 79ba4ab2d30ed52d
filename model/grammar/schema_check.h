#ifndef COTERIE_MODEL_GRAMMAR_SCHEMA_CHECK_H_
#define COTERIE_MODEL_GRAMMAR_SCHEMA_CHECK_H_

#include <string>
#include <string_view>

#include "common/json.h"
#include "common/status.h"

// What is asked of a schema before a grammar is made of it.
namespace coterie::grammar {

// `<place>: <what>`, the place a JSON pointer into the schema.
Status RefuseSchema(std::string_view place, std::string_view what);
std::string Below(std::string_view place, std::string_view key);

// Every keyword of the object is served, or says nothing of texts (a title); InvalidArgument naming one that
// isn't.
Status CheckKeywords(const Json& schema, std::string_view place);
// Whether the keyword says nothing of which texts are valid.
bool IsAnnotation(std::string_view keyword);

// What a reference ("#", "#/$defs/…", "#/definitions/…") points at; InvalidArgument where it isn't there.
StatusOr<const Json*> Resolve(const Json& root, const Json& reference, std::string_view place);

// No text is valid against two of the `oneOf` options: they differ in their types, or in the const of a
// property that both require. InvalidArgument naming two of which that isn't known.
Status CheckDisjoint(const Json& root, const Json& options, std::string_view place);

// Every definition that can be reached has a finite text, and none is itself without a character in between.
Status CheckEnds(const Json& root);

}  // namespace coterie::grammar

#endif  // COTERIE_MODEL_GRAMMAR_SCHEMA_CHECK_H_
