#ifndef COTERIE_TESTS_FUZZ_HTTP_CHECKS_H_
#define COTERIE_TESTS_FUZZ_HTTP_CHECKS_H_

#include <cmath>
#include <cstddef>
#include <string>

#include "common/check.h"
#include "common/utf8.h"
#include "gateway/http/api/answer_fields.h"
#include "gateway/http/api/completion_ask.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/api/status_response.h"
#include "tests/gateway/fake_text_model.h"

// What the fuzzers of HTTP hold against everything that was read of a body: what is accepted keeps the core's
// promises, what is refused is said in JSON.
namespace coterie::gateway::http {

inline RequestLimits SmallRequestLimits() {
  RequestLimits limits;
  limits.max_input_bytes = 256;
  limits.max_messages = 4;
  limits.max_tags = 3;
  limits.max_allowed_experts = 3;
  return limits;
}

inline void CheckError(const HttpResponse& response) {
  COTERIE_CHECK(response.code >= 400 && response.code <= 505);
  const auto json = nlohmann::json::parse(*response.body, nullptr, /*allow_exceptions=*/false);
  COTERIE_CHECK(json.is_object() && json["error"]["message"].is_string()) << *response.body;
  for (const auto& [name, value] : response.headers) {
    COTERIE_CHECK(value.find_first_of("\r\n") == std::string::npos) << name;
  }
}

inline void CheckCollaboration(const AnswerRequest& request) {
  const CollaborationAsk& ask = request.routing.collaboration;
  if (ask.mode == CollaborationMode::kNone) {
    COTERIE_CHECK(ask.members.empty() && request.expert.kind != ExpertSelector::Kind::kMembers);
    return;
  }
  COTERIE_CHECK(ask.members.empty() == (ask.k > 0));
  COTERIE_CHECK(ask.members.size() <= 16 && ask.k <= 16);
  float sum = 0;
  for (const CollaborationMember& member : ask.members) {
    COTERIE_CHECK(member.expert.kind == ExpertSelector::Kind::kNamed && member.weight > 0);
    sum += member.weight;
  }
  COTERIE_CHECK(ask.members.empty() || std::fabs(sum - 1) < 1e-5f) << sum;
}

inline void CheckAsk(const StatusOr<CompletionAsk>& ask, const AskContext& context) {
  if (!ask.ok()) return CheckError(StatusResponse(ask.status()));
  COTERIE_CHECK(!ask->requests.empty() && ask->requests.size() <= static_cast<size_t>(kMaxChoices));
  COTERIE_CHECK_EQ(ask->requests.size() % ask->n, 0u);
  for (const AnswerRequest& request : ask->requests) {
    COTERIE_CHECK(ValidateInput(request.input, context.limits).ok());
    COTERIE_CHECK(ValidateSamplingParams(request.sampling, context.text.vocab_size()).ok());
    COTERIE_CHECK(ValidateRouting(request.routing, context.limits).ok());
    COTERIE_CHECK(ValidateContext(request.context, context.limits).ok());
    COTERIE_CHECK(!request.context.trace_id.empty());
    CheckCollaboration(request);
    COTERIE_CHECK(IsWellFormed(request.input.QuestionText()));
  }
}

// A body as every endpoint of answers reads it.
inline void CheckBody(const nlohmann::json& body, const HttpRequest& request) {
  static const auto* const text = new testing::FakeTextModel();
  static const RequestLimits limits = SmallRequestLimits();
  const AskContext context{*text, limits, request};
  CheckAsk(ReadChatAsk(body, context), context);
  CheckAsk(ReadCompletionAsk(body, context), context);
  const StatusOr<JsonObject> object = JsonObject::Of(body, "");
  COTERIE_CHECK(object.ok()) << object.status();
  const StatusOr<TextInput> input = ReadPromptOrMessages(*object, {"prompt", "input"});
  if (!input.ok()) CheckError(StatusResponse(input.status()));
}

}  // namespace coterie::gateway::http

#endif  // COTERIE_TESTS_FUZZ_HTTP_CHECKS_H_
