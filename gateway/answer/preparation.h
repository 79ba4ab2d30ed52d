#ifndef COTERIE_GATEWAY_ANSWER_PREPARATION_H_
#define COTERIE_GATEWAY_ANSWER_PREPARATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "common/trace/trace.h"
#include "gateway/core/gateway_core.h"
#include "gateway/core/request.h"
#include "gateway/routing/router_state.h"
#include "gateway/runtime/cancel_flag.h"

namespace coterie::gateway {

// What stands between a request and a worker: its tokens and its route, made side by side on the work pool.
struct Prepared {
  std::vector<int32_t> prompt_ids;
  size_t n_input_ids = 0;  // of prompt_ids; the rest is `completion`
  // With mark_question, of prompt_ids: what the asker wrote last, without the template and the messages
  // around; empty where that cannot be told.
  size_t question_begin = 0;
  size_t question_end = 0;
  Decision decision;
  // What it was decided by, to decide once more where the chosen expert cannot be loaded.
  std::shared_ptr<const RouterState> router;
  std::vector<float> embedding;  // of the message that routed it; empty unless it was routed by text
};

struct PreparationRequest {
  TextInput input;  // may be empty when there is a completion
  ExpertSelector expert;
  RoutingAsk routing;
  std::string completion;   // goes on after the input (Score)
  bool only_route = false;  // leave prompt_ids empty
  bool mark_question = false;
  std::string cache_salt;  // of its context
  Trace trace;
};

// Calls `done` once, from a thread of the pool; or returns why the pool took nothing, and does not call.
// Whatever has not begun when `cancelled` is set is left out, and the result an error.
Status Prepare(const GatewayCore* core, PreparationRequest request, CancelFlag cancelled,
               std::function<void(StatusOr<Prepared>)> done);

// What placement wants to know of the decision: the adapters, and in how many rows they run.
PlacementRequest PlacementOf(const Decision& decision);

// Has the worker that such a request would get load its adapters ahead (WorkerPool::Prefetch).
void Prefetch(const GatewayCore& core, PlacementRequest placement);

// TextEmbedder::Embed of the text (a long one's two ends), its time measured, and `done` called on the work
// pool (or, with an error, from anywhere). Itself called on the work pool. FailedPrecondition when the
// gateway has no embedder, Cancelled when `cancelled` was set before it began.
void EmbedText(const GatewayCore* core, std::string_view text, TextEmbedder::Urgency urgency,
               CancelFlag cancelled, TextEmbedder::Done done);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_PREPARATION_H_
