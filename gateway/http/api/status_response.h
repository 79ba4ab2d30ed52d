#ifndef COTERIE_GATEWAY_HTTP_API_STATUS_RESPONSE_H_
#define COTERIE_GATEWAY_HTTP_API_STATUS_RESPONSE_H_

#include <string>

#include "common/status.h"
#include "gateway/http/server/http_response.h"

namespace coterie::gateway::http {

// What a refusal of the core is in HTTP: its code, OpenAI's error object with the field it is about, and what
// clients read before they try again (retry-after, retry-after-ms, x-should-retry).
HttpResponse StatusResponse(const Status& status);

// The error object alone, for a stream that has begun.
std::string StatusBody(const Status& status);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_STATUS_RESPONSE_H_
