#ifndef COTERIE_GATEWAY_CORE_REQUEST_H_
#define COTERIE_GATEWAY_CORE_REQUEST_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/constraint.h"
#include "common/ids.h"
#include "common/sequence.h"
#include "common/status.h"
#include "common/trace/trace_context.h"
#include "gateway/routing/routing_ask.h"
#include "gateway/text/text_input.h"

namespace coterie::gateway {

class AccessPass;

// Bounds on what one request may ask for.
struct RequestLimits {
  size_t max_input_bytes = size_t{1} << 20;  // prompt, or all messages together
  size_t max_messages = 1024;
  size_t max_tags = 64;
  size_t max_allowed_experts = 10'000;
  size_t max_label_bytes = kMaxLabelBytes;      // tenant, trace id, cache salt, tag, role
  uint32_t max_prompt_tokens = 0;               // 0: what the model's context holds
  uint32_t max_answer_tokens = 0;               // 0: likewise; more is cut to it
  absl::Duration max_time = absl::Minutes(10);  // also without a deadline of the client
};

struct RequestContext {
  std::string tenant = "default";
  int32_t priority = 0;
  std::string trace_id;
  TraceContext caller_trace;  // that the request is a part of; none: its caller traces nothing
  std::string cache_salt;
  bool no_shadow = false;
  // The client's end of its connection, from whoever accepted it; for fairness only, and may be empty.
  std::string connection;
  // What the caller's key allows; null: nobody asked for one.
  std::shared_ptr<AccessPass> pass;
};

struct AnswerRequest {
  TextInput input;
  ExpertSelector expert;
  SamplingParams sampling;
  RoutingAsk routing;
  RequestContext context;
  MonotonicTime deadline = MonotonicTime::InfiniteFuture();
  // Above 0: the log-probabilities of the prompt's own tokens go before the answer, as many alternatives each
  // as sampling.logprobs says, and no more values than this.
  uint64_t max_prompt_logprobs = 0;
  bool without_answer = false;  // nothing is generated, whatever sampling says
};

// InvalidArgument naming the field, its value and the limit.
Status ValidateInput(const TextInput& input, const RequestLimits& limits);
Status ValidateContext(const RequestContext& context, const RequestLimits& limits);
Status ValidateRouting(const RoutingAsk& routing, const RequestLimits& limits);

// A trace id is drawn where there is none.
Status CompleteContext(RequestContext* context, const RequestLimits& limits);
// What every protocol does with a request that it has read: all of the above, and what one field says of
// another.
Status CompleteRequest(AnswerRequest* request, const RequestLimits& limits, uint32_t vocab_size);

// InvalidArgument saying what of the constraint is not served, about `field`: what every protocol asks once
// of what it read.
Status CheckConstraint(const Constraint& constraint, std::string_view field);

// A W3C trace id: 32 hexadecimal digits.
std::string DrawTraceId();

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_REQUEST_H_
