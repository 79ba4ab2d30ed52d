#ifndef COTERIE_GATEWAY_HTTP_API_ANSWER_FIELDS_H_
#define COTERIE_GATEWAY_HTTP_API_ANSWER_FIELDS_H_

#include <initializer_list>

#include "common/status.h"
#include "gateway/core/request.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/server/http_request.h"

namespace coterie::gateway::http {

// The fields that several endpoints share, in OpenAI's names, beyond them in vLLM's. Whoever calls these
// finishes with CompleteRequest.

// Who asks, by what the transport knows of it; a request's trace id is that of `traceparent`, or its own id.
RequestContext ContextOf(const HttpRequest& request);

// `messages`, with `developer` as "system" and content in parts joined by line breaks.
StatusOr<std::vector<ChatMessage>> ReadMessages(const JsonObject& body);

// `messages`, or a string under one of `names`: exactly one of them all. The first name is the one that an
// error asks for.
StatusOr<TextInput> ReadPromptOrMessages(const JsonObject& body, std::initializer_list<const char*> names);

// Model, sampling, stop strings, and what `coterie`, `priority` and `cache_salt` say of routing and context.
Status ReadAnswerFields(const JsonObject& body, AnswerRequest* request);

// `model`, `coterie`, `priority` and `cache_salt` alone.
Status ReadRoutingFields(const JsonObject& body, AnswerRequest* request);

// InvalidArgument naming the first field of the body that means something which is not served here: answering
// as if it were not there would be a lie. Fields that are not known at all are harmless.
Status RefuseUnserved(const JsonObject& body);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_ANSWER_FIELDS_H_
