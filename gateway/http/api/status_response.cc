#include "gateway/http/api/status_response.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "absl/strings/match.h"
#include "common/refused_field.h"
#include "gateway/access/retry_delay.h"

namespace coterie::gateway::http {
namespace {

struct Mapping {
  int code;
  std::string_view error_code;    // OpenAI's, where clients look at one
  std::string_view should_retry;  // empty: the client's own rule
};

Mapping MappingOf(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return {400, "", "false"};
    case absl::StatusCode::kUnauthenticated:
      return {401, "invalid_api_key", "false"};
    case absl::StatusCode::kPermissionDenied:
      return {403, "", "false"};
    case absl::StatusCode::kNotFound:
      return {404, "model_not_found", "false"};
    case absl::StatusCode::kDeadlineExceeded:
      return {408, "", "false"};  // the same again takes as long
    case absl::StatusCode::kAlreadyExists:
      return {409, "", "false"};
    case absl::StatusCode::kResourceExhausted:
      return {429, "rate_limit_exceeded", "true"};
    case absl::StatusCode::kUnimplemented:
      return {501, "", "false"};
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
      return {503, "", "true"};
    default:
      return {500, "", ""};
  }
}

// The core's name of a field as HTTP's clients know it.
std::string ParamOf(const Status& status) {
  const std::optional<std::string> field = FieldOf(status);
  if (!field) return status.code() == absl::StatusCode::kNotFound ? "model" : "";
  if (absl::StartsWith(*field, "chat.")) return field->substr(5);
  if (absl::StartsWith(*field, "context.")) return field->substr(8);
  if (absl::StartsWith(*field, "collaboration")) return "coterie." + *field;
  if (*field == "expert") return "model";
  if (absl::StartsWith(*field, "routing.")) return "coterie." + field->substr(8);
  return *field;
}

}  // namespace

std::string StatusBody(const Status& status) {
  const Mapping mapping = MappingOf(status.code());
  return ErrorBody(mapping.code, ToStd(status.message()), ParamOf(status), mapping.error_code);
}

HttpResponse StatusResponse(const Status& status) {
  const Mapping mapping = MappingOf(status.code());
  HttpResponse response = HttpResponse::Json(StatusBody(status));
  response.code = mapping.code;
  std::optional<absl::Duration> delay = RetryDelay(status);
  if (!delay && mapping.code == 503) delay = absl::Seconds(1);
  if (delay) {
    const int64_t ms = std::max<int64_t>(1, absl::ToInt64Milliseconds(*delay));
    response.headers.emplace_back("Retry-After", absl::StrCat((ms + 999) / 1000));
    response.headers.emplace_back("Retry-After-Ms", absl::StrCat(ms));
  }
  if (mapping.code == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (!mapping.should_retry.empty()) {
    response.headers.emplace_back("X-Should-Retry", std::string(mapping.should_retry));
  }
  return response;
}

}  // namespace coterie::gateway::http
