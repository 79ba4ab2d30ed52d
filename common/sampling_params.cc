#include "common/sampling_params.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "common/refused_field.h"

namespace coterie {
namespace {

template <typename... Words>
Status RefuseField(std::string_view field, const Words&... words) {
  return OfField(absl::InvalidArgumentError(absl::StrCat(words...)), field);
}

Status OutOfRange(std::string_view field, double value, std::string_view limit) {
  return RefuseField(field, ToAbsl(field), " is ", value, "; it must be ", ToAbsl(limit));
}

Status TooMany(std::string_view field, size_t count, size_t limit) {
  return RefuseField(field, ToAbsl(field), " has ", count, " entries; at most ", limit, " are allowed");
}

Status CheckToken(std::string_view field, uint32_t token, uint32_t vocab_size) {
  if (vocab_size == 0 || token < vocab_size) return absl::OkStatus();
  return RefuseField(field, ToAbsl(field), " names token ", token, "; the vocabulary has ", vocab_size,
                     " tokens");
}

}  // namespace

// Comparisons are written so that a NaN fails them.
Status ValidateSamplingParams(const SamplingParams& p, uint32_t vocab_size) {
  if (p.max_tokens < 1) return OutOfRange("max_tokens", p.max_tokens, "at least 1");
  if (!(p.temperature >= 0.0f && p.temperature <= kMaxTemperature)) {
    return OutOfRange("temperature", p.temperature, absl::StrCat("in [0, ", kMaxTemperature, "]"));
  }
  if (!(p.top_p > 0.0f && p.top_p <= 1.0f)) return OutOfRange("top_p", p.top_p, "in (0, 1]");
  if (!(p.min_p >= 0.0f && p.min_p <= 1.0f)) return OutOfRange("min_p", p.min_p, "in [0, 1]");
  if (!(p.repetition_penalty > 0.0f) || !std::isfinite(p.repetition_penalty)) {
    return OutOfRange("repetition_penalty", p.repetition_penalty, "greater than 0 and finite");
  }
  if (!(std::fabs(p.presence_penalty) <= 2.0f)) {
    return OutOfRange("presence_penalty", p.presence_penalty, "in [-2, 2]");
  }
  if (!(std::fabs(p.frequency_penalty) <= 2.0f)) {
    return OutOfRange("frequency_penalty", p.frequency_penalty, "in [-2, 2]");
  }
  if (p.logit_bias.size() > kMaxLogitBiasEntries) {
    return TooMany("logit_bias", p.logit_bias.size(), kMaxLogitBiasEntries);
  }
  std::vector<uint32_t> biased;
  biased.reserve(p.logit_bias.size());
  for (const auto& [token, bias] : p.logit_bias) {
    if (!(std::fabs(bias) <= kMaxLogitBias)) {
      return OfField(OutOfRange(absl::StrCat("logit_bias[", token, "]"), bias, "in [-100, 100]"),
                     "logit_bias");
    }
    RETURN_IF_ERROR(CheckToken("logit_bias", token, vocab_size));
    biased.push_back(token);
  }
  std::sort(biased.begin(), biased.end());
  if (auto twice = std::adjacent_find(biased.begin(), biased.end()); twice != biased.end()) {
    return RefuseField("logit_bias", "logit_bias names token ", *twice, " twice");
  }
  if (p.stop.size() > kMaxStopStrings) return TooMany("stop", p.stop.size(), kMaxStopStrings);
  for (const std::string& stop : p.stop) {
    if (stop.empty()) return RefuseField("stop", "stop has an empty string");
    if (stop.size() > kMaxStopStringBytes) {
      return RefuseField("stop", "a stop string has ", stop.size(), " bytes; at most ", kMaxStopStringBytes,
                         " are allowed");
    }
  }
  if (p.stop_token_ids.size() > kMaxStopTokens) {
    return TooMany("stop_token_ids", p.stop_token_ids.size(), kMaxStopTokens);
  }
  for (uint32_t token : p.stop_token_ids) RETURN_IF_ERROR(CheckToken("stop_token_ids", token, vocab_size));
  if (p.constraint && p.ignore_eos) {
    return RefuseField("ignore_eos",
                       "ignore_eos is set beside a constraint, which ends the answer where its text is "
                       "complete; leave one of "
                       "the two out");
  }
  if (p.logprobs.has_value() && *p.logprobs > kMaxLogprobs) {
    return OutOfRange("logprobs", *p.logprobs, absl::StrCat("at most ", kMaxLogprobs));
  }
  return absl::OkStatus();
}

}  // namespace coterie
