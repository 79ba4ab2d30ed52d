#ifndef COTERIE_GATEWAY_HTTP_API_CONSTRAINT_FIELDS_H_
#define COTERIE_GATEWAY_HTTP_API_CONSTRAINT_FIELDS_H_

#include <string_view>

#include "common/constraint.h"
#include "common/status.h"
#include "gateway/http/api/json_object.h"

namespace coterie::gateway::http {

// What the text of the answers must be, by OpenAI's `response_format` or vLLM's `structured_outputs`,
// `guided_json`, `guided_regex`, `guided_choice`; checked. `raw` is the body as it came: a schema's
// properties are answered in its order. InvalidArgument naming the field, with OfField.
StatusOr<Constraint> ReadConstraint(const JsonObject& body, std::string_view raw);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_CONSTRAINT_FIELDS_H_
