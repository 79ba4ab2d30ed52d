#ifndef COTERIE_GATEWAY_HTTP_API_COMPLETION_ASK_H_
#define COTERIE_GATEWAY_HTTP_API_COMPLETION_ASK_H_

#include <cstdint>
#include <vector>

#include "common/status.h"
#include "gateway/core/request.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/server/http_request.h"
#include "gateway/text/text_model.h"

namespace coterie::gateway::http {

inline constexpr int64_t kMaxChoices = 16;  // of one request: prompts times n
// Log-probabilities that an answer which is sent whole may hold, alternatives included.
inline constexpr uint64_t kMaxWholeLogprobs = 1'000'000;

// What /v1/chat/completions and /v1/completions ask for.
struct CompletionAsk {
  bool chat = true;
  bool stream = false;
  bool include_usage = false;  // of a stream
  bool echo = false;           // the prompt stands before the answer
  uint32_t n = 1;              // choices of each prompt
  // One for each choice: the n of a prompt side by side. Completed.
  std::vector<AnswerRequest> requests;
};

struct AskContext {
  const TextModel& text;
  const RequestLimits& limits;
  const HttpRequest& request;
};

// InvalidArgument or NotFound naming the field, with OfField.
StatusOr<CompletionAsk> ReadChatAsk(const nlohmann::json& body, const AskContext& context);
StatusOr<CompletionAsk> ReadCompletionAsk(const nlohmann::json& body, const AskContext& context);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_COMPLETION_ASK_H_
