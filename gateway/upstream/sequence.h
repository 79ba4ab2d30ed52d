#ifndef COTERIE_GATEWAY_UPSTREAM_SEQUENCE_H_
#define COTERIE_GATEWAY_UPSTREAM_SEQUENCE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/sampling_params.h"
#include "common/status.h"

namespace coterie::gateway {

// The plain forms of what travels between gateway and worker (coterie/v1/worker.proto says what each field
// means).

enum class FinishReason { kNone = 0, kStop = 1, kLength = 2, kCancelled = 3, kDeadline = 4, kError = 5 };

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first
};

struct AdapterUse {
  std::string name;
  Digest digest;
  float weight = 1.0f;
};

struct SequenceRequest {
  std::vector<int32_t> prompt_ids;
  std::vector<int32_t> resume_ids;  // generated elsewhere already
  SamplingParams sampling;
  std::vector<AdapterUse> adapters;  // empty: the base
  std::string tenant;
  int32_t priority = 0;
  std::string trace_id;
  std::string cache_salt;
  MonotonicTime deadline = MonotonicTime::InfiniteFuture();
  uint32_t credit = 0;  // tokens the worker may send at first
  std::optional<uint32_t> prompt_logprobs_from;
  bool score_only = false;
};

struct SequenceOutput {
  uint64_t sequence_id = 0;
  uint32_t position = 0;  // of token_ids[0], counted from the answer's start
  std::vector<int32_t> token_ids;
  std::vector<PositionLogprobs> logprobs;
  std::vector<PositionLogprobs> prompt_logprobs;
  FinishReason finish = FinishReason::kNone;
  std::optional<int32_t> stop_token_id;
  Status error;  // with kError; marked (common/adapter_failure.h) where an adapter could not be loaded
  bool worker_drains = false;  // as its last state says: an error is then a hand-over it planned
  uint32_t cached_prompt_tokens = 0;
  absl::Duration queued;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_SEQUENCE_H_
