// /v1/route: which expert a question would get, and why; generates nothing.
#include <string>
#include <utility>

#include "gateway/answer/route_question.h"
#include "gateway/core/apply_pass.h"
#include "gateway/http/api/answer_fields.h"
#include "gateway/http/api/completion_writer.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

StatusOr<AnswerRequest> ReadRouteAsk(const Call& call, const nlohmann::json& json) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Of(json, ""));
  AnswerRequest request;
  request.context = ContextOf(call.request());
  RETURN_IF_ERROR(ReadRoutingFields(body, &request));
  ASSIGN_OR_RETURN(request.input, ReadPromptOrMessages(body, {"prompt", "input"}));
  RETURN_IF_ERROR(CompleteRequest(&request, call.core()->limits, /*vocab_size=*/0));
  ApplyPass(call.pass, &request.context, &request.routing);
  return request;
}

void RespondRoute(const Call& call, Decision decision) {
  const RouteEvent route{std::move(decision), "", "", ""};
  std::string body;
  JsonWriter json(&body);
  json.BeginObject().Key("object").String("route").Key("model").String(ModelOf(route.decision));
  json.Key("coterie");
  WriteRoute(route, &json);
  json.EndObject();
  HttpResponse response = HttpResponse::Json(std::move(body));
  AddRouteHeaders(route, &response.headers);
  call.Respond(std::move(response));
}

}  // namespace

void AnswerRoute(const Call& call, const nlohmann::json& body) {
  StatusOr<AnswerRequest> request = ReadRouteAsk(call, body);
  if (!request.ok()) {
    call.core()->metrics->CountRequest("Route", request.status());
    return call.Refuse(request.status());
  }
  const auto question =
      RouteQuestion::Create(call.core(), *std::move(request), [call](StatusOr<Decision> decision) {
        if (!decision.ok()) return call.Refuse(decision.status());
        RespondRoute(call, *std::move(decision));
      });
  call.exchange->WhenGone([question] { question->Cancel(); });
  question->Begin();
}

}  // namespace coterie::gateway::http
