#ifndef COTERIE_GATEWAY_UPSTREAM_SEQUENCE_H_
#define COTERIE_GATEWAY_UPSTREAM_SEQUENCE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "common/sequence.h"
#include "common/status.h"

namespace coterie::gateway {

// What a worker says of the tokens at one position.
struct PositionLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most probable first
};

// One message of a worker about a sequence (coterie/v1/worker.proto says what each field means).
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
