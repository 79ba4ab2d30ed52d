#include "gateway/http/api/api.h"

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/quoted.h"
#include "gateway/access/retry_delay.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/api/status_response.h"

namespace coterie::gateway::http {
namespace {

// Parsing a longer body takes a millisecond and more, for which the connection's thread is not held.
constexpr size_t kParsedInline = 32 << 10;

struct Endpoint {
  const char* path;
  void (*get)(const Call&);
  void (*post)(const Call&, const nlohmann::json&);
  bool needs_key = true;  // where the gateway has keys
};

constexpr Endpoint kEndpoints[] = {
    {"/health", AnswerHealth, nullptr, false},     {"/ready", AnswerReady, nullptr, false},
    {"/version", AnswerVersion, nullptr},          {"/metrics", AnswerMetrics, nullptr},
    {"/v1/models", AnswerModels, nullptr},         {"/v1/models/", AnswerModel, nullptr},  // and a name
    {"/v1/chat/completions", nullptr, AnswerChat}, {"/v1/completions", nullptr, AnswerCompletion},
    {"/v1/embeddings", nullptr, AnswerEmbeddings}, {"/v1/route", nullptr, AnswerRoute},
    {"/v1/cluster", AnswerCluster, nullptr},       {"/v1/map", AnswerMap, nullptr},
    {"/tokenize", nullptr, AnswerTokenize},        {"/detokenize", nullptr, AnswerDetokenize},
};

constexpr Endpoint kOperatorEndpoints[] = {
    {"/health", AnswerHealth, nullptr, false},
    {"/ready", AnswerReady, nullptr, false},
    {"/version", AnswerVersion, nullptr, false},
    {"/v1/models", AnswerModels, nullptr, false},
    {"/v1/load_lora_adapter", nullptr, AnswerLoadLora, false},
    {"/v1/unload_lora_adapter", nullptr, AnswerUnloadLora, false},
};

const Endpoint* FindEndpoint(std::span<const Endpoint> endpoints, std::string_view path) {
  for (const Endpoint& endpoint : endpoints) {
    const std::string_view own = endpoint.path;
    if (path == own) return path.back() == '/' ? nullptr : &endpoint;
    if (own.back() == '/' && absl::StartsWith(ToAbsl(path), ToAbsl(own))) return &endpoint;
  }
  return nullptr;
}

const char* AllowedMethods(const Endpoint& endpoint) {
  return endpoint.get != nullptr ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

bool IsKnownMethod(std::string_view method) {
  constexpr std::array<std::string_view, 9> kMethods = {"GET",     "HEAD",  "POST",    "PUT",  "DELETE",
                                                        "OPTIONS", "PATCH", "CONNECT", "TRACE"};
  for (const std::string_view known : kMethods) {
    if (method == known) return true;
  }
  return false;
}

// A web page that somebody looks at may have their browser send a form or plain text to this listener, but no
// JSON unless we allow it; so JSON must be called that.
bool IsJson(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  absl::StripAsciiWhitespace(&type);
  absl::AsciiStrToLower(&type);
  return type == "application/json" ||
         (absl::StartsWith(type, "application/") && absl::EndsWith(type, "+json"));
}

HttpResponse NoContent(const char* allow) {
  HttpResponse response;
  response.code = 204;
  response.type.clear();
  response.headers.emplace_back("Allow", allow);
  return response;
}

HttpResponse RefuseRequest(int code, std::string_view words) {
  HttpResponse response = ErrorResponse(code, words);
  response.headers.emplace_back("X-Should-Retry", "false");
  return response;
}

// The pass of the caller's key; null where the gateway has no keys.
StatusOr<std::shared_ptr<AccessPass>> CheckCaller(const GatewayCore& core, const HttpRequest& request) {
  if (core.keys == nullptr) return std::shared_ptr<AccessPass>();
  return core.keys->Check(KeyIn(request.Header("authorization"), request.Header("x-api-key")));
}

void AnswerPost(const Call& call, const Endpoint& endpoint) {
  const auto answer = [call, post = endpoint.post] {
    const StatusOr<nlohmann::json> body = ParseBody(call.request().body);
    if (!body.ok()) return call.Refuse(body.status());
    post(call, *body);
  };
  call.request().body.size() <= kParsedInline ? answer() : call.OnPool(answer);
}

}  // namespace

void Call::Refuse(const Status& status) const { exchange->Respond(StatusResponse(status)); }

void Call::OnPool(std::function<void()> work) const {
  const Status status = core()->compute->Submit(std::move(work), WorkPool::Turn::kSpare);
  if (!status.ok()) Refuse(WithRetryDelay(status, core()->admission->RetryDelayNow()));
}

void Api::Handle(std::shared_ptr<Exchange> exchange) {
  Call call{shared_from_this(), std::move(exchange)};
  const HttpRequest& request = call.request();
  if (!IsKnownMethod(request.method)) {
    return call.Respond(
        RefuseRequest(501, absl::StrCat("the method ", Quoted(request.method), " is not known")));
  }
  if (request.path == "*") {
    if (request.method == "OPTIONS") return call.Respond(NoContent("GET, HEAD, POST, OPTIONS"));
    return call.Respond(RefuseRequest(400, "the target \"*\" is for OPTIONS alone"));
  }
  if (console_.has_value() && console_->Has(request.path)) {
    call.exchange->SetRoute("/");
    return call.Respond(console_->Answer(request));
  }
  const Endpoint* endpoint = FindEndpoint(
      lora_ == nullptr ? std::span<const Endpoint>(kEndpoints) : kOperatorEndpoints, request.path);
  if (endpoint == nullptr) {
    return call.Respond(RefuseRequest(
        404, absl::StrCat("there is no ", Quoted(request.path), " here; the API is below /v1/")));
  }
  call.exchange->SetRoute(endpoint->path);
  if (request.method == "OPTIONS") return call.Respond(NoContent(AllowedMethods(*endpoint)));
  if (endpoint->needs_key) {
    StatusOr<std::shared_ptr<AccessPass>> pass = CheckCaller(*core_, request);
    if (!pass.ok()) return call.Refuse(pass.status());
    call.pass = *std::move(pass);
  }
  if (endpoint->get != nullptr && (request.method == "GET" || request.method == "HEAD")) {
    return endpoint->get(call);
  }
  if (endpoint->post != nullptr && request.method == "POST") {
    if (!IsJson(request.Header("content-type"))) {
      return call.Respond(
          RefuseRequest(415, absl::StrCat("content-type is ", Quoted(request.Header("content-type")),
                                          "; application/json is expected")));
    }
    return AnswerPost(call, *endpoint);
  }
  HttpResponse response = RefuseRequest(405, absl::StrCat(request.method, " is not served at ",
                                                          endpoint->path, "; ", AllowedMethods(*endpoint)));
  response.headers.emplace_back("Allow", AllowedMethods(*endpoint));
  call.Respond(std::move(response));
}

}  // namespace coterie::gateway::http
