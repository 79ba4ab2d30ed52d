#ifndef COTERIE_COMMON_SAMPLING_PARAMS_H_
#define COTERIE_COMMON_SAMPLING_PARAMS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "common/status.h"

namespace coterie {

// How tokens are drawn; coterie/v1/sampling.proto says what each field means. Stop strings are not here: they
// are text, and text is the gateway's.
struct SamplingParams {
  static constexpr uint32_t kMaxLogprobs = 20;
  static constexpr size_t kMaxLogitBias = 1024;
  static constexpr size_t kMaxStopTokens = 64;

  uint32_t max_tokens = 256;  // of the whole answer
  float temperature = 0.0f;   // 0: greedy
  uint32_t top_k = 0;         // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::vector<std::pair<uint32_t, float>> logit_bias;  // by token id, ascending, each once
  uint64_t seed = 0;
  std::vector<uint32_t> stop_token_ids;
  bool ignore_eos = false;
  std::optional<uint32_t> logprobs;

  bool operator==(const SamplingParams&) const = default;
};

// InvalidArgument naming the field, its value and the limit. Token ids must lie below `vocabulary`.
Status ValidateSamplingParams(const SamplingParams& params, uint32_t vocabulary);

}  // namespace coterie

#endif  // COTERIE_COMMON_SAMPLING_PARAMS_H_
