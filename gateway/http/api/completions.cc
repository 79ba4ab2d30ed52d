// /v1/chat/completions and /v1/completions: what they ask, handed to a CompletionCall.
#include <utility>

#include "gateway/core/apply_pass.h"
#include "gateway/http/api/completion_ask.h"
#include "gateway/http/api/completion_call.h"
#include "gateway/http/api/endpoints.h"

namespace coterie::gateway::http {
namespace {

void StartCompletion(const Call& call, StatusOr<CompletionAsk> ask) {
  if (!ask.ok()) {
    call.core()->metrics->CountRequest("Generate", ask.status());
    return call.Refuse(ask.status());
  }
  for (AnswerRequest& request : ask->requests) ApplyPass(call.pass, &request.context, &request.routing);
  CompletionCall::Start(call.core(), call.exchange, *std::move(ask));
}

AskContext ContextFor(const Call& call) { return {*call.core()->text, call.core()->limits, call.request()}; }

}  // namespace

void AnswerChat(const Call& call, const nlohmann::json& body) {
  StartCompletion(call, ReadChatAsk(body, ContextFor(call)));
}

void AnswerCompletion(const Call& call, const nlohmann::json& body) {
  StartCompletion(call, ReadCompletionAsk(body, ContextFor(call)));
}

}  // namespace coterie::gateway::http
