// The sampler draws the same token from a few of the largest logits as from the whole row.
#include <algorithm>
#include <cmath>
#include <functional>
#include <random>

#include "gtest/gtest.h"
#include "kernels/cpu/sampler.h"
#include "tests/testing/seed.h"

namespace coterie::cpu {
namespace {

std::vector<TopLogit> Largest(std::span<const float> logits, int k) {
  std::vector<TopLogit> all;
  for (size_t i = 0; i < logits.size(); ++i) all.push_back({logits[i], static_cast<int32_t>(i)});
  std::sort(all.begin(), all.end(), Before);
  all.resize(static_cast<size_t>(k));
  return all;
}

TEST(TopLogitsTest, TheSamplerDrawsTheSameTokenFromThem) {
  constexpr int kVocab = 500;
  std::mt19937 random(testing::TestSeed());
  std::normal_distribution<float> normal;
  Sampler sampler(kVocab);
  for (int i = 0; i < 3000; ++i) {
    std::vector<float> logits(kVocab);
    for (float& logit : logits) {
      logit = normal(random);
      if (i % 3 == 1) logit = std::round(logit * 4) / 4;  // many are equal
      if (i % 3 == 2) logit *= 1e-6f;                     // many are equally far from the largest one
    }
    if (i % 3 == 2) logits[random() % kVocab] = 3.0f;
    RowSampling params;
    params.temperature = i % 5 == 0 ? 0.0f : static_cast<float>(random() % 30 + 1) / 10;
    params.top_k = random() % kMaxTopLogits + 1;
    if (i % 2 == 0) params.top_p = static_cast<float>(random() % 100 + 1) / 100;
    if (i % 7 == 0) params.min_p = static_cast<float>(random() % 100) / 100;
    const int k = Sampler::TopNeeded(params, kVocab, kMaxTopLogits);
    ASSERT_EQ(k, params.greedy() ? 1 : static_cast<int>(params.top_k));
    params.seed = 9;
    params.position = static_cast<uint64_t>(i);
    ASSERT_EQ(sampler.SampleTop(params, Largest(logits, k)), sampler.Sample(params, logits)) << "draw " << i;
  }
}

TEST(TopLogitsTest, WhatIsNotFiniteIsReportedNotSampled) {
  Sampler sampler(10);
  for (float value : {NAN, INFINITY, -INFINITY}) {
    EXPECT_EQ(sampler.SampleTop({}, std::vector<TopLogit>{{value, -1}}), -1);
  }
}

TEST(TopLogitsTest, AreNotEnoughWhereAnythingNeedsTheWholeDistribution) {
  const auto needed = [](const std::function<void(RowSampling&)>& change, int vocab_size = 100) {
    RowSampling params;
    change(params);
    return Sampler::TopNeeded(params, vocab_size, kMaxTopLogits);
  };
  EXPECT_EQ(needed([](auto&) {}), 1);
  EXPECT_EQ(needed([](auto& p) { p.top_k = 40; }), 1);  // greedy all the same
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1, p.top_k = 64; }), 64);
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1, p.top_k = 65; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.temperature = 1, p.top_k = 64; }, 64), 0);
  EXPECT_EQ(needed([](auto& p) { p.n_logprobs = 0; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.bias_end = 1; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.repetition_penalty = 1.1f; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.presence_penalty = 0.1f; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.frequency_penalty = 0.1f; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.mask = 0; }), 0);
  EXPECT_EQ(needed([](auto& p) { p.keep_logits = true; }), 0);
}

}  // namespace
}  // namespace coterie::cpu
