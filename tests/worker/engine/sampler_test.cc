#include "worker/engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "common/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;

// Logits of 8 tokens whose probabilities are easy to see: log of 1, 2, 4, ... over 255.
std::vector<float> Ladder() {
  std::vector<float> logits;
  for (int i = 0; i < 8; ++i) logits.push_back(std::log(static_cast<float>(1 << i)) - 1.5f);
  return logits;
}

int32_t Sample(const SamplingParams& params, std::vector<float> logits, uint64_t position = 0,
               std::vector<int32_t> prompt = {}, std::vector<int32_t> answer = {}) {
  Sampler sampler(static_cast<int>(logits.size()));
  return sampler.Sample(params, params.seed.value_or(0), position, logits, prompt, answer);
}

// How often each token comes in `n` positions.
std::map<int32_t, double> Frequencies(const SamplingParams& params, const std::vector<float>& logits,
                                      int n = 20000) {
  Sampler sampler(static_cast<int>(logits.size()));
  std::map<int32_t, double> counts;
  for (int i = 0; i < n; ++i) counts[sampler.Sample(params, 3, i, logits, {}, {})] += 1.0 / n;
  return counts;
}

SamplingParams Hot(const std::function<void(SamplingParams&)>& change = nullptr) {
  SamplingParams params;
  params.temperature = 1.0f;
  if (change) change(params);
  return params;
}

TEST(SamplerTest, GreedyTakesTheLargestLogitAndTheLowestIdAmongEquals) {
  EXPECT_EQ(Sample({}, {1, 5, 3, 5, 2}), 1);
  std::vector<float> logits(1000, 0.0f);
  for (int at : {0, 7, 8, 9, 511, 999}) {
    std::vector<float> one = logits;
    one[at] = 1;
    EXPECT_EQ(Sample({}, one), at);
  }
  EXPECT_EQ(Sample({}, logits), 0);
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreReportedNotSampled) {
  EXPECT_EQ(Sample({}, {1, NAN, 2}), -1);
  EXPECT_EQ(Sample(Hot(), {1, NAN, 2}), -1);
  EXPECT_EQ(Sample({}, {-INFINITY, -INFINITY}), -1);
  EXPECT_EQ(Sample(Hot(), {-INFINITY, 3, 2}), -1) << "one that overflowed to the other side";
  EXPECT_EQ(Sample(Hot(), {1, INFINITY, 2}), -1);
  Sampler sampler(3);
  std::vector<ScoredToken> out;
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    EXPECT_FALSE(sampler.AppendLogprobs(std::vector<float>{1, bad, 2}, 0, 2, &out)) << bad;
    EXPECT_TRUE(out.empty());
  }
}

TEST(SamplerTest, TokensComeAsOftenAsTheDistributionSays) {
  const std::map<int32_t, double> found = Frequencies(Hot(), Ladder());
  for (int i = 2; i < 8; ++i) EXPECT_NEAR(found.at(i), (1 << i) / 255.0, 0.01) << i;
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  const auto cold = Frequencies(Hot([](auto& p) { p.temperature = 0.5f; }), Ladder());
  double total = 0;
  for (int i = 0; i < 8; ++i) total += std::pow(4.0, i);
  EXPECT_NEAR(cold.at(7), std::pow(4.0, 7) / total, 0.01);
  EXPECT_EQ(Sample(Hot([](auto& p) { p.temperature = 1e-30f; }), Ladder()), 7);
}

TEST(SamplerTest, TheCutsKeepWhatTheySay) {
  auto support = [](const SamplingParams& params) {
    std::set<int32_t> tokens;
    for (const auto& [token, frequency] : Frequencies(params, Ladder())) tokens.insert(token);
    return tokens;
  };
  EXPECT_THAT(support(Hot([](auto& p) { p.top_k = 2; })), ElementsAre(6, 7));
  // 128/255 = 0.502, with 64: 0.753, with 32: 0.878.
  EXPECT_THAT(support(Hot([](auto& p) { p.top_p = 0.5f; })), ElementsAre(7));
  EXPECT_THAT(support(Hot([](auto& p) { p.top_p = 0.76f; })), ElementsAre(5, 6, 7));
  EXPECT_THAT(support(Hot([](auto& p) { p.min_p = 0.2f; })), ElementsAre(5, 6, 7));
  // top_p is taken of what top_k left: 128/192 = 0.67.
  EXPECT_THAT(support(Hot([](auto& p) { p.top_k = 2, p.top_p = 0.6f; })), ElementsAre(7));
  EXPECT_THAT(support(Hot([](auto& p) { p.top_k = 1; })), ElementsAre(7));
  EXPECT_THAT(support(Hot([](auto& p) { p.top_k = 1000, p.top_p = 1.0f, p.min_p = 0.0f; })).size(),
              ::testing::Ge(7u));
}

TEST(SamplerTest, WhatIsLeftIsRenormalised) {
  const auto found = Frequencies(Hot([](auto& p) { p.top_k = 3; }), Ladder());
  EXPECT_NEAR(found.at(7), 128.0 / 224, 0.01);
  EXPECT_NEAR(found.at(5), 32.0 / 224, 0.01);
}

TEST(SamplerTest, TheSameSeedPositionAndLogitsGiveTheSameToken) {
  SamplingParams params = Hot([](auto& p) { p.top_p = 0.95f, p.seed = 11; });
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(4 * PhiloxUniform(1, i));
  Sampler used(5000);
  used.Sample(params, 1, 1, logits, {}, {});  // whatever came before leaves no trace
  std::set<int32_t> tokens;
  for (uint64_t position = 0; position < 50; ++position) {
    const int32_t token = Sample(params, logits, position);
    EXPECT_EQ(used.Sample(params, 11, position, logits, {}, {}), token);
    tokens.insert(token);
  }
  EXPECT_GT(tokens.size(), 40u);
}

TEST(SamplerTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  SamplingParams params;
  params.repetition_penalty = 2.0f;
  EXPECT_EQ(Sample(params, {4, 3, -1}, 0, {0}, {}), 1);         // 4/2 < 3
  EXPECT_EQ(Sample(params, {4, 1.9f, -1}, 0, {0, 0}, {0}), 0);  // once, however often it occurred: 2 > 1.9
  EXPECT_EQ(Sample(params, {-1, -1.9f, -9}, 0, {}, {0}), 1);    // -2 < -1.9
}

TEST(SamplerTest, PresenceAndFrequencyCountTheAnswerOnly) {
  SamplingParams presence, frequency;
  presence.presence_penalty = 1.0f;
  frequency.frequency_penalty = 1.0f;
  EXPECT_EQ(Sample(presence, {3, 2.5f, 0}, 0, {0}, {}), 0);
  EXPECT_EQ(Sample(presence, {3, 2.5f, 0}, 0, {}, {0}), 1);
  EXPECT_EQ(Sample(presence, {3, 1.5f, 0}, 0, {}, {0, 0, 0}), 0);
  EXPECT_EQ(Sample(frequency, {3, 1.5f, 0}, 0, {}, {0, 0}), 1);
  presence.presence_penalty = -2.0f;
  EXPECT_EQ(Sample(presence, {3, 1.5f, 0}, 0, {}, {1}), 1);
}

TEST(SamplerTest, LogitBiasForcesAndForbids) {
  SamplingParams params;
  params.logit_bias = {{2, 100.0f}};
  EXPECT_EQ(Sample(params, {5, 4, 0}), 2);
  params.logit_bias = {{0, -100.0f}};
  EXPECT_EQ(Sample(params, {5, 4, 0}), 1);
}

TEST(SamplerTest, LogprobsAreOfTheRawDistributionBestFirst) {
  Sampler sampler(8);
  std::vector<ScoredToken> out;
  sampler.AppendLogprobs(Ladder(), 3, 3, &out);
  ASSERT_EQ(out.size(), 4u);
  EXPECT_EQ(out[0].token, 3);
  EXPECT_NEAR(out[0].logprob, std::log(8.0 / 255), 1e-6);
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(out[i].token, 8 - i);
    EXPECT_NEAR(out[i].logprob, std::log((1 << (8 - i)) / 255.0), 1e-6);
  }
  out.clear();
  sampler.AppendLogprobs(std::vector<float>(8, 1.0f), 5, 20, &out);
  ASSERT_EQ(out.size(), 9u);  // no more than there are tokens; equals in order of id
  EXPECT_EQ(out[1].token, 0);
  EXPECT_EQ(out[8].token, 7);
}

}  // namespace
}  // namespace coterie
