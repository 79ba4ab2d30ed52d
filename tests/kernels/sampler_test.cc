#include "kernels/cpu/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>

#include "common/philox.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/batch.h"
#include "kernels/cpu/token_counts.h"

namespace coterie::cpu {
namespace {

using ::testing::ElementsAre;

// Logits of 8 tokens whose probabilities are easy to see: log of 1, 2, 4, ... over 255.
std::vector<float> Ladder() {
  std::vector<float> logits;
  for (int i = 0; i < 8; ++i) logits.push_back(std::log(static_cast<float>(1 << i)) - 1.5f);
  return logits;
}

int32_t Sample(RowSampling row, std::vector<float> logits, uint64_t position = 0,
               std::vector<int32_t> prompt = {}, std::vector<int32_t> answer = {},
               std::vector<LogitBias> biases = {}) {
  const int vocab = static_cast<int>(logits.size());
  row.position = position;
  TokenCounts counts(1, vocab);
  counts.Reset(0, prompt, answer);
  return Sampler(vocab).Sample(row, logits, {.biases = biases, .counts = counts.Of(0)});
}

// How often each token comes in `n` positions.
std::map<int32_t, double> Frequencies(const RowSampling& params, const std::vector<float>& logits,
                                      int n = 20000) {
  Sampler sampler(static_cast<int>(logits.size()));
  std::map<int32_t, double> counts;
  RowSampling row = params;
  row.seed = 3;
  for (int i = 0; i < n; ++i) {
    row.position = static_cast<uint64_t>(i);
    counts[sampler.Sample(row, logits)] += 1.0 / n;
  }
  return counts;
}

RowSampling Hot(const std::function<void(RowSampling&)>& change = nullptr) {
  RowSampling params;
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
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<TokenLogprob> out(3);
    EXPECT_FALSE(sampler.Logprobs(std::vector<float>{1, bad, 2}, 0, out)) << bad;
    for (const TokenLogprob& scored : out) {
      EXPECT_EQ(scored.token, kNotFinite);
      EXPECT_TRUE(std::isnan(scored.logprob));
    }
  }
}

TEST(SamplerTest, BothZerosAreOneLogit) {
  // The larger of two equal zeros had the sign of the first, and a distance of -0 a class far behind the
  // last.
  for (const std::vector<float>& logits :
       {std::vector<float>{-0.0f, 0.0f}, {-0.0f, 0, -0.0f, 0, -0.0f, 0, -1}}) {
    std::set<int32_t> tokens;
    for (uint64_t i = 0; i < 200; ++i) tokens.insert(Sample(Hot([](auto& p) { p.top_p = 0.9f; }), logits, i));
    EXPECT_GE(tokens.size(), 2u);
    EXPECT_EQ(Sample({}, logits), 0);
    EXPECT_EQ(Sample(Hot([](auto& p) { p.top_k = 1; }), logits), 0);
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
  auto support = [](const RowSampling& params) {
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
  RowSampling params = Hot([](auto& p) { p.top_p = 0.95f, p.seed = 11; });
  std::vector<float> logits(5000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(4 * PhiloxUniform(1, i));
  Sampler used(5000);
  used.Sample(params, logits);  // whatever came before leaves no trace
  std::set<int32_t> tokens;
  for (uint64_t position = 0; position < 50; ++position) {
    const int32_t token = Sample(params, logits, position);
    params.position = position;
    EXPECT_EQ(used.Sample(params, logits), token);
    tokens.insert(token);
  }
  EXPECT_GT(tokens.size(), 40u);
}

TEST(SamplerTest, RepetitionPenaltyDividesPositiveAndMultipliesNegativeLogitsOnce) {
  RowSampling params;
  params.repetition_penalty = 2.0f;
  EXPECT_EQ(Sample(params, {4, 3, -1}, 0, {0}, {}), 1);         // 4/2 < 3
  EXPECT_EQ(Sample(params, {4, 1.9f, -1}, 0, {0, 0}, {0}), 0);  // once, however often it occurred: 2 > 1.9
  EXPECT_EQ(Sample(params, {-1, -1.9f, -9}, 0, {}, {0}), 1);    // -2 < -1.9
}

TEST(SamplerTest, PresenceAndFrequencyCountTheAnswerOnly) {
  RowSampling presence, frequency;
  presence.presence_penalty = 1.0f;
  frequency.frequency_penalty = 1.0f;
  EXPECT_EQ(Sample(presence, {3, 2.5f, 0}, 0, {0}, {}), 0);
  EXPECT_EQ(Sample(presence, {3, 2.5f, 0}, 0, {}, {0}), 1);
  EXPECT_EQ(Sample(presence, {3, 1.5f, 0}, 0, {}, {0, 0, 0}), 0);
  EXPECT_EQ(Sample(frequency, {3, 1.5f, 0}, 0, {}, {0, 0}), 1);
  presence.presence_penalty = -2.0f;
  EXPECT_EQ(Sample(presence, {3, 1.5f, 0}, 0, {}, {1}), 1);
}

TEST(SamplerTest, CountsKeptTokenByTokenAreThoseOfTheWholeHistory) {
  constexpr int kVocab = 50;
  TokenCounts kept(3, kVocab);
  std::vector<int32_t> prompt, answer;
  for (int i = 0; i < 40; ++i) prompt.push_back(static_cast<int32_t>(kVocab * PhiloxUniform(1, i)));
  kept.Reset(1, std::vector<int32_t>(9, 9), {});  // another sequence had the seat before
  kept.Reset(1, prompt, {});
  for (int i = 0; i < 60; ++i) {
    answer.push_back(static_cast<int32_t>(kVocab * PhiloxUniform(2, i)));
    kept.Add(1, answer.back());
    TokenCounts walked(1, kVocab);
    walked.Reset(0, prompt, answer);
    EXPECT_TRUE(std::ranges::equal(kept.Of(1), walked.Of(0))) << "after " << i;
  }
  EXPECT_TRUE(std::ranges::all_of(kept.Of(0), [](uint32_t count) { return count == 0; }));
  EXPECT_TRUE(std::ranges::all_of(kept.Of(2), [](uint32_t count) { return count == 0; }));
}

TEST(SamplerTest, LogitBiasForcesAndForbids) {
  EXPECT_EQ(Sample({}, {5, 4, 0}, 0, {}, {}, {{2, 100.0f}}), 2);
  EXPECT_EQ(Sample({}, {5, 4, 0}, 0, {}, {}, {{0, -100.0f}}), 1);
}

std::vector<uint32_t> MaskOf(const std::set<int32_t>& tokens, int vocab_size) {
  std::vector<uint32_t> words(static_cast<size_t>(MaskWords(vocab_size)));
  for (const int32_t token : tokens) words[static_cast<size_t>(token / 32)] |= 1u << (token % 32);
  return words;
}

TEST(SamplerTest, AMaskLetsThroughItsTokensAloneWithTheirProportionsKept) {
  const std::vector<uint32_t> mask = MaskOf({1, 3, 6}, 8);
  Sampler sampler(8);
  EXPECT_EQ(sampler.Sample({}, Ladder(), {.mask = mask}), 6);  // greedy
  for (const auto& change : std::vector<std::function<void(RowSampling&)>>{
           nullptr, [](auto& p) { p.top_k = 5; }, [](auto& p) { p.top_p = 0.9999f; }}) {
    RowSampling row = Hot(change);
    std::map<int32_t, double> found;
    for (row.position = 0; row.position < 20000; ++row.position) {
      found[sampler.Sample(row, Ladder(), {.mask = mask})] += 1.0 / 20000;
    }
    ASSERT_EQ(found.size(), 3u);
    for (const int32_t token : {1, 3, 6}) EXPECT_NEAR(found.at(token), (1 << token) / 74.0, 0.01) << token;
  }
}

TEST(SamplerTest, AMaskIsTheSameAsALargeNegativeBiasOnAllOthers) {
  constexpr int kVocab = 300;
  Sampler sampler(kVocab);
  for (int i = 0; i < 500; ++i) {
    std::vector<float> logits(kVocab);
    for (int t = 0; t < kVocab; ++t) logits[t] = static_cast<float>(6 * PhiloxUniform(i, t));
    std::set<int32_t> allowed;
    std::vector<LogitBias> biases;
    for (int t = 0; t < kVocab; ++t) {
      if (PhiloxUniform(i + 1000, t) < 0.1) {
        allowed.insert(t);
      } else {
        biases.push_back({t, -1e6f});
      }
    }
    if (allowed.empty()) continue;
    RowSampling row = Hot();
    row.position = static_cast<uint64_t>(i);
    if (i % 3 == 1) row.top_p = 0.8f;
    if (i % 3 == 2) row.top_k = 7;
    EXPECT_EQ(sampler.Sample(row, logits, {.mask = MaskOf(allowed, kVocab)}),
              sampler.Sample(row, logits, {.biases = biases}))
        << i;
  }
}

TEST(SamplerTest, AMaskHidesNeitherABrokenRowNorThatItLetsNothingThrough) {
  Sampler sampler(3);
  const std::vector<uint32_t> first = MaskOf({0}, 3);
  EXPECT_EQ(sampler.Sample({}, std::vector<float>{1, NAN, 2}, {.mask = first}), kNotFinite);
  EXPECT_EQ(sampler.Sample({}, std::vector<float>{1, INFINITY, 2}, {.mask = first}), kNotFinite);
  EXPECT_EQ(sampler.Sample({}, std::vector<float>{1, 3, 2}, {.mask = MaskOf({}, 3)}), kNotFinite);
}

TEST(SamplerTest, LogprobsAreOfTheRawDistributionBestFirst) {
  Sampler sampler(8);
  std::vector<TokenLogprob> out(4);
  ASSERT_TRUE(sampler.Logprobs(Ladder(), 3, out));
  EXPECT_EQ(out[0].token, 3);
  EXPECT_NEAR(out[0].logprob, std::log(8.0 / 255), 1e-6);
  for (int i = 1; i < 4; ++i) {
    EXPECT_EQ(out[i].token, 8 - i);
    EXPECT_NEAR(out[i].logprob, std::log((1 << (8 - i)) / 255.0), 1e-6);
  }
  RowSampling asked;
  asked.n_logprobs = 20;
  EXPECT_EQ(NumLogprobs(asked, 8), 9);  // no more than there are tokens
  out.assign(9, {});
  ASSERT_TRUE(sampler.Logprobs(std::vector<float>(8, 1.0f), 5, out));
  EXPECT_EQ(out[1].token, 0);  // equals in order of id
  EXPECT_EQ(out[8].token, 7);
}

}  // namespace
}  // namespace coterie::cpu
