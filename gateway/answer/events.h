#ifndef COTERIE_GATEWAY_ANSWER_EVENTS_H_
#define COTERIE_GATEWAY_ANSWER_EVENTS_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/status.h"
#include "gateway/routing/router_state.h"
#include "gateway/text/text_model.h"
#include "gateway/upstream/session.h"

namespace coterie::gateway {

// What an answer tells its client, in plain form (coterie/v1/generation.proto says what each field means).

struct RouteEvent {
  Decision decision;
  std::string worker;
  std::string placement_reason;
  std::string numerics_class;  // of the worker
};

struct DescribedToken {
  std::string bytes;    // what it adds to the text; empty for a control token
  std::string control;  // a control token's name
};

struct TextLogprobs {
  PositionLogprobs values;
  DescribedToken chosen;
  std::vector<DescribedToken> top;  // as values.top
};

// `stream` is where the token stands: ask before it is appended.
DescribedToken Describe(int32_t id, const TextModel& text, const TextStream& stream);
TextLogprobs Describe(PositionLogprobs values, const TextModel& text, const TextStream& stream);

struct TextEvent {
  std::string text;
  std::vector<int32_t> token_ids;
  std::vector<TextLogprobs> logprobs;
};

// The prompt's tokens, where their log-probabilities were asked for; before any text.
struct PromptEvent {
  DescribedToken first;  // has none: nothing stands before it
  std::vector<TextLogprobs> others;
};

struct NoticeEvent {
  SessionPlacement placement;
};

struct UsageCount {
  uint32_t prompt_tokens = 0;
  uint32_t cached_prompt_tokens = 0;
  uint32_t completion_tokens = 0;
};

struct FinishEvent {
  FinishReason reason = FinishReason::kNone;
  std::string stop;
  UsageCount usage;
  absl::Duration routed, queued, first_token, total;  // since the request was accepted
  uint64_t seed = 0;
  std::string worker;
  std::string numerics_class;
};

using AnswerEvent = std::variant<RouteEvent, PromptEvent, TextEvent, NoticeEvent, FinishEvent>;

// Where an answer's events go. Called in order, never two at once; OnAnswerEnd is the last call. A call must
// not wait and must not call back into the answer.
class AnswerSink {
 public:
  virtual ~AnswerSink() = default;
  virtual void OnEvent(AnswerEvent event) = 0;
  virtual void OnAnswerEnd(const Status& status) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_EVENTS_H_
