#ifndef COTERIE_GATEWAY_HTTP_SERVER_HTTP_RESPONSE_H_
#define COTERIE_GATEWAY_HTTP_SERVER_HTTP_RESPONSE_H_

#include <memory>
#include <string>
#include <string_view>

#include "gateway/http/server/http_request.h"

namespace coterie::gateway::http {

inline constexpr char kJsonType[] = "application/json";

// What a handler answers. Names and values of headers are ours, or have been through HeaderValue.
struct HttpResponse {
  int code = 200;
  std::string type = kJsonType;  // empty: no content, and no such header
  HeaderFields headers;
  std::shared_ptr<const std::string> body;  // may be shared by many; null: empty

  static HttpResponse Json(std::string body) {
    HttpResponse response;
    response.body = std::make_shared<const std::string>(std::move(body));
    return response;
  }
};

// Text that is not ours as a header may carry it: visible ASCII and spaces, other characters as "?", cut to
// 512 bytes.
std::string HeaderValue(std::string_view text);

// An error in OpenAI's shape, {"error": {message, type, param, code}}; `param` and `error_code` are null
// where they are empty. The type follows from `code`.
HttpResponse ErrorResponse(int code, std::string_view message, std::string_view param = {},
                           std::string_view error_code = {});
// Its body alone, for a stream that has begun.
std::string ErrorBody(int code, std::string_view message, std::string_view param,
                      std::string_view error_code);

// The head of a response up to and with its empty line.
struct ResponseHead {
  bool chunked = false;  // else `length` counts, unless it is negative: the body ends with the connection
  int64_t length = 0;
  bool close = false;  // says that the connection ends behind it
  std::string_view request_id;
};
std::string FormatHead(const HttpResponse& response, const ResponseHead& head);

// "Bad Request" for 400; of codes this program sends.
std::string_view ReasonPhrase(int code);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_HTTP_RESPONSE_H_
