#include "common/sampling_params.h"

#include <cmath>
#include <functional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

constexpr uint32_t kVocabulary = 100;

TEST(SamplingParamsTest, DefaultsAreValid) { EXPECT_TRUE(ValidateSamplingParams({}, kVocabulary).ok()); }

struct Case {
  std::string words;
  std::function<void(SamplingParams&)> spoil;
};

TEST(SamplingParamsTest, NamesFieldValueAndLimitOfWhatIsOutOfBounds) {
  const Case cases[] = {
      {"sampling.max_tokens is 0, must be at least 1", [](auto& p) { p.max_tokens = 0; }},
      {"sampling.temperature is -1, must lie in [0, 100]", [](auto& p) { p.temperature = -1; }},
      {"sampling.temperature is nan, must lie in [0, 100]", [](auto& p) { p.temperature = NAN; }},
      {"sampling.top_p is 0, must lie in (0, 1]", [](auto& p) { p.top_p = 0; }},
      {"sampling.top_p is 1.5, must lie in [0, 1]", [](auto& p) { p.top_p = 1.5f; }},
      {"sampling.min_p is 2, must lie in [0, 1]", [](auto& p) { p.min_p = 2; }},
      {"sampling.repetition_penalty is 0, must lie in (0, 100]", [](auto& p) { p.repetition_penalty = 0; }},
      {"sampling.presence_penalty is 3, must lie in [-2, 2]", [](auto& p) { p.presence_penalty = 3; }},
      {"sampling.frequency_penalty is -3, must lie in [-2, 2]", [](auto& p) { p.frequency_penalty = -3; }},
      {"sampling.logit_bias names token 100, the vocabulary has 100 tokens",
       [](auto& p) {
         p.logit_bias = {{100, 1.0f}};
       }},
      {"sampling.logit_bias[7] is 101, must lie in [-100, 100]",
       [](auto& p) {
         p.logit_bias = {{7, 101.0f}};
       }},
      {"sampling.stop_token_ids has 65 entries, at most 64 are allowed",
       [](auto& p) { p.stop_token_ids.assign(65, 1); }},
      {"sampling.logprobs is 21, at most 20 are reported", [](auto& p) { p.logprobs = 21; }},
  };
  for (const Case& c : cases) {
    SamplingParams params;
    c.spoil(params);
    const Status status = ValidateSamplingParams(params, kVocabulary);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.words;
    EXPECT_EQ(status.message(), ToAbsl(c.words));
  }
}

}  // namespace
}  // namespace coterie
