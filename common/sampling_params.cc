#include "common/sampling_params.h"

#include <cmath>
#include <string_view>

namespace coterie {
namespace {

Status CheckRange(std::string_view field, float value, float low, float high) {
  if (std::isfinite(value) && value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("sampling.", ToAbsl(field), " is ", value, ", must lie in [", low, ", ", high, "]"));
}

Status CheckCount(std::string_view field, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("sampling.", ToAbsl(field), " has ", count, " entries, at most ", limit, " are allowed"));
}

Status CheckToken(std::string_view field, uint32_t token, uint32_t vocabulary) {
  if (token < vocabulary) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("sampling.", ToAbsl(field), " names token ", token,
                                                 ", the vocabulary has ", vocabulary, " tokens"));
}

}  // namespace

Status ValidateSamplingParams(const SamplingParams& params, uint32_t vocabulary) {
  if (params.max_tokens == 0)
    return absl::InvalidArgumentError("sampling.max_tokens is 0, must be at least 1");
  RETURN_IF_ERROR(CheckRange("temperature", params.temperature, 0.0f, 100.0f));
  RETURN_IF_ERROR(CheckRange("top_p", params.top_p, 0.0f, 1.0f));
  if (params.top_p == 0.0f) return absl::InvalidArgumentError("sampling.top_p is 0, must lie in (0, 1]");
  RETURN_IF_ERROR(CheckRange("min_p", params.min_p, 0.0f, 1.0f));
  RETURN_IF_ERROR(CheckRange("repetition_penalty", params.repetition_penalty, 0.0f, 100.0f));
  if (params.repetition_penalty == 0.0f) {
    return absl::InvalidArgumentError("sampling.repetition_penalty is 0, must lie in (0, 100]");
  }
  RETURN_IF_ERROR(CheckRange("presence_penalty", params.presence_penalty, -2.0f, 2.0f));
  RETURN_IF_ERROR(CheckRange("frequency_penalty", params.frequency_penalty, -2.0f, 2.0f));
  RETURN_IF_ERROR(CheckCount("logit_bias", params.logit_bias.size(), SamplingParams::kMaxLogitBias));
  for (const auto& [token, bias] : params.logit_bias) {
    RETURN_IF_ERROR(CheckToken("logit_bias", token, vocabulary));
    RETURN_IF_ERROR(CheckRange(absl::StrCat("logit_bias[", token, "]"), bias, -100.0f, 100.0f));
  }
  RETURN_IF_ERROR(CheckCount("stop_token_ids", params.stop_token_ids.size(), SamplingParams::kMaxStopTokens));
  for (uint32_t token : params.stop_token_ids)
    RETURN_IF_ERROR(CheckToken("stop_token_ids", token, vocabulary));
  if (params.logprobs && *params.logprobs > SamplingParams::kMaxLogprobs) {
    return absl::InvalidArgumentError(absl::StrCat("sampling.logprobs is ", *params.logprobs, ", at most ",
                                                   SamplingParams::kMaxLogprobs, " are reported"));
  }
  return absl::OkStatus();
}

}  // namespace coterie
