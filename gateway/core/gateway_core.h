#ifndef COTERIE_GATEWAY_CORE_GATEWAY_CORE_H_
#define COTERIE_GATEWAY_CORE_GATEWAY_CORE_H_

#include <cstdint>
#include <string>

#include "common/trace/trace.h"
#include "gateway/access/admission.h"
#include "gateway/access/keys.h"
#include "gateway/core/gateway_metrics.h"
#include "gateway/core/request.h"
#include "gateway/routing/router_states.h"
#include "gateway/runtime/timer_queue.h"
#include "gateway/runtime/work_pool.h"
#include "gateway/text/text_embedder.h"
#include "gateway/text/text_model.h"
#include "gateway/upstream/session.h"
#include "gateway/upstream/worker_pool.h"
#include "model/store/expert_store.h"
#include "router/conversation.h"

namespace coterie::gateway {

class DriftWatch;
class EmbeddingCache;
class FallbackLog;
class RequestLog;
class ShadowTraffic;

// What every request needs; the server owns the parts, which outlive all requests.
struct GatewayCore {
  std::string gateway_id;
  std::string router_policy;  // by name, for people
  const TextModel* text = nullptr;
  TextEmbedder* embedder = nullptr;              // null: only experts by name, and the base
  const ConversationPhrases* phrases = nullptr;  // null: no message is known by them
  ConversationOptions conversation;
  EmbeddingCache* embeddings = nullptr;  // null: earlier messages are embedded again
  RouterStates* routers = nullptr;
  const ExpertStore* store = nullptr;  // null: no experts
  WorkerPool* workers = nullptr;
  const Keys* keys = nullptr;  // null: nobody is asked who they are
  Admission* admission = nullptr;
  WorkPool* compute = nullptr;
  TimerQueue* timers = nullptr;
  GatewayMetrics* metrics = nullptr;
  FallbackLog* fallback_log = nullptr;
  RequestLog* request_log = nullptr;
  ShadowTraffic* shadow = nullptr;  // null: no prompt is scored beside its answer
  RequestLimits limits;
  SessionOptions session;
  DriftWatch* drift = nullptr;
  Tracer tracer{nullptr, 0};
  size_t embed_max_bytes = 4096;  // of a text; of a question the encoder reads 64 tokens by default
  absl::Duration client_stall_timeout = absl::Minutes(2);
  absl::Duration upload_idle_timeout = absl::Minutes(1);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_GATEWAY_CORE_H_
