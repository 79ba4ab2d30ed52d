#include "gateway/http/server/http_response.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "common/unix_time.h"
#include "common/utf8.h"
#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

constexpr size_t kMaxHeaderValueBytes = 512;

// What OpenAI's own servers call it.
std::string_view ErrorType(int code) {
  switch (code) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 408:
      return "timeout_error";
    case 429:
      return "rate_limit_error";
    case 503:
      return "service_unavailable_error";
    default:
      return code >= 500 ? "server_error" : "invalid_request_error";
  }
}

}  // namespace

std::string HeaderValue(std::string_view text) {
  std::string value;
  for (size_t i = 0; i < text.size() && value.size() < kMaxHeaderValueBytes;) {
    const auto c = static_cast<unsigned char>(text[i]);
    value.push_back(c >= 0x20 && c < 0x7f ? text[i] : '?');
    i += StepUtf8(text.substr(i)).n_bytes;
  }
  return value;
}

std::string ErrorBody(int code, std::string_view message, std::string_view param,
                      std::string_view error_code) {
  std::string body;
  JsonWriter json(&body);
  json.BeginObject().Key("error").BeginObject().Key("message").String(Printable(message));
  json.Key("type").String(ErrorType(code)).Key("param");
  param.empty() ? json.Null() : json.String(Printable(param));
  json.Key("code");
  error_code.empty() ? json.Null() : json.String(error_code);
  json.EndObject().EndObject();
  return body;
}

HttpResponse ErrorResponse(int code, std::string_view message, std::string_view param,
                           std::string_view error_code) {
  HttpResponse response = HttpResponse::Json(ErrorBody(code, message, param, error_code));
  response.code = code;
  return response;
}

std::string FormatHead(const HttpResponse& response, const ResponseHead& head) {
  std::string out =
      absl::StrCat("HTTP/1.1 ", response.code, " ", ToAbsl(ReasonPhrase(response.code)),
                   "\r\nDate: ", HttpDate(), "\r\nX-Request-Id: ", ToAbsl(head.request_id), "\r\n");
  if (!response.type.empty()) absl::StrAppend(&out, "Content-Type: ", response.type, "\r\n");
  for (const auto& [name, value] : response.headers) absl::StrAppend(&out, name, ": ", value, "\r\n");
  if (head.chunked) {
    out += "Transfer-Encoding: chunked\r\n";
  } else if (head.length >= 0 && response.code >= 200 && response.code != 204 &&
             response.code != 304) {  // what is not sent again has the length it had
    absl::StrAppend(&out, "Content-Length: ", head.length, "\r\n");
  }
  if (head.close) out += "Connection: close\r\n";
  out += "\r\n";
  return out;
}

std::string_view ReasonPhrase(int code) {
  switch (code) {
    case 100:
      return "Continue";
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 304:
      return "Not Modified";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Content Too Large";
    case 414:
      return "URI Too Long";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Status";
  }
}

}  // namespace coterie::gateway::http
