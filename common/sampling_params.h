#ifndef COTERIE_COMMON_SAMPLING_PARAMS_H_
#define COTERIE_COMMON_SAMPLING_PARAMS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/constraint.h"
#include "common/status.h"

namespace coterie {

inline constexpr size_t kMaxLogitBiasEntries = 1024;
inline constexpr float kMaxLogitBias = 100.0f;
inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 256;
inline constexpr size_t kMaxStopTokens = 64;
inline constexpr uint32_t kMaxLogprobs = 20;
inline constexpr float kMaxTemperature = 100.0f;

// What changes the distribution that a token is drawn from, with the defaults of
// proto/coterie/v1/sampling.proto, which says what each field means. The order of application is written in
// kernels/sampling.h.
struct DrawParams {
  float temperature = 0.0f;  // 0: greedy
  uint32_t top_k = 0;        // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;

  bool greedy() const { return temperature == 0.0f; }
  bool has_penalties() const {
    return repetition_penalty != 1.0f || presence_penalty != 0.0f || frequency_penalty != 0.0f;
  }
};

// How the tokens of an answer are drawn, and what ends it.
struct SamplingParams : DrawParams {
  uint32_t max_tokens = 256;
  std::vector<std::pair<uint32_t, float>> logit_bias;  // token id, bias; each id once
  std::optional<uint64_t> seed;   // absent: the gateway draws one; workers always get one
  std::vector<std::string> stop;  // matched by the gateway
  std::vector<uint32_t> stop_token_ids;
  bool ignore_eos = false;
  Constraint constraint;  // what the answer's text must be; ends by itself, so not beside ignore_eos
  // How many alternatives to report beside the token's own log-probability; absent: nothing.
  std::optional<uint32_t> logprobs;
};

// InvalidArgument naming the field, its value and the limit. Token ids are held against `vocab_size`; 0:
// unknown here, not checked.
Status ValidateSamplingParams(const SamplingParams& params, uint32_t vocab_size);

}  // namespace coterie

#endif  // COTERIE_COMMON_SAMPLING_PARAMS_H_
