#include "common/sampling_params.h"

#include <cmath>
#include <functional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

TEST(SamplingParamsTest, DefaultsAreValid) {
  EXPECT_TRUE(ValidateSamplingParams(SamplingParams(), 100).ok());
  EXPECT_TRUE(SamplingParams().greedy());
}

TEST(SamplingParamsTest, EachBoundIsCheckedAndNamed) {
  struct Case {
    std::function<void(SamplingParams&)> change;
    const char* message;
  };
  const Case cases[] = {
      {[](SamplingParams& p) { p.max_tokens = 0; }, "max_tokens is 0; it must be at least 1"},
      {[](SamplingParams& p) { p.temperature = -0.1f; }, "temperature is -0.1; it must be in [0, 100]"},
      {[](SamplingParams& p) { p.temperature = NAN; }, "temperature is nan"},
      {[](SamplingParams& p) { p.top_p = 0; }, "top_p is 0; it must be in (0, 1]"},
      {[](SamplingParams& p) { p.top_p = 1.5f; }, "top_p is 1.5"},
      {[](SamplingParams& p) { p.min_p = 2; }, "min_p is 2; it must be in [0, 1]"},
      {[](SamplingParams& p) { p.repetition_penalty = 0; }, "repetition_penalty is 0"},
      {[](SamplingParams& p) { p.repetition_penalty = INFINITY; }, "repetition_penalty is inf"},
      {[](SamplingParams& p) { p.presence_penalty = 3; }, "presence_penalty is 3; it must be in [-2, 2]"},
      {[](SamplingParams& p) { p.frequency_penalty = -3; }, "frequency_penalty is -3"},
      {[](SamplingParams& p) {
         p.logit_bias = {{5, 101.0f}};
       },
       "logit_bias[5] is 101; it must be in [-100, 100]"},
      {[](SamplingParams& p) {
         p.logit_bias = {{100, 1.0f}};
       },
       "logit_bias names token 100; the vocabulary has 100"},
      {[](SamplingParams& p) {
         p.logit_bias = {{5, 1.0f}, {5, 2.0f}};
       },
       "logit_bias names token 5 twice"},
      {[](SamplingParams& p) {
         p.logit_bias.assign(1025, {1, 0.0f});
       },
       "logit_bias has 1025 entries; at most 1024"},
      {[](SamplingParams& p) { p.stop.assign(17, "x"); }, "stop has 17 entries; at most 16"},
      {[](SamplingParams& p) { p.stop = {std::string(257, 'x')}; },
       "a stop string has 257 bytes; at most 256"},
      {[](SamplingParams& p) { p.stop = {""}; }, "stop has an empty string"},
      {[](SamplingParams& p) { p.stop_token_ids.assign(65, 1); },
       "stop_token_ids has 65 entries; at most 64"},
      {[](SamplingParams& p) { p.stop_token_ids = {100}; }, "stop_token_ids names token 100"},
      {[](SamplingParams& p) { p.logprobs = 21; }, "logprobs is 21; it must be at most 20"},
  };
  for (const Case& c : cases) {
    SamplingParams params;
    c.change(params);
    const Status status = ValidateSamplingParams(params, 100);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(c.message));
  }
}

}  // namespace
}  // namespace coterie
