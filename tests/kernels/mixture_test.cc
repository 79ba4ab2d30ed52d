#include "kernels/cpu/mixture.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/step_sampler.h"
#include "kernels/token_weights.h"
#include "tests/kernels/op_testing.h"

namespace coterie::cpu {
namespace {

using coterie::testing::Random;

struct Rows {
  std::vector<std::vector<float>> logits;
  std::vector<float> weights;
};

Rows RandomRows(int n_rows, int vocab_size, Random* random) {
  Rows rows;
  float sum = 0;
  for (int i = 0; i < n_rows; ++i) {
    rows.logits.push_back(random->Normals(static_cast<size_t>(vocab_size), 4.0f));
    rows.weights.push_back(static_cast<float>(random->Int(1, 31)));
    sum += rows.weights.back();
  }
  for (float& weight : rows.weights) weight /= sum;
  return rows;
}

// log Σ λ softmax, in float64.
std::vector<double> Reference(const Rows& rows) {
  std::vector<double> p(rows.logits[0].size());
  for (size_t i = 0; i < rows.logits.size(); ++i) {
    const double top = *std::max_element(rows.logits[i].begin(), rows.logits[i].end());
    double sum = 0;
    for (const float logit : rows.logits[i]) sum += std::exp(static_cast<double>(logit) - top);
    for (size_t v = 0; v < p.size(); ++v) {
      p[v] +=
          static_cast<double>(rows.weights[i]) * std::exp(static_cast<double>(rows.logits[i][v]) - top) / sum;
    }
  }
  for (double& value : p) value = std::log(value);
  return p;
}

TEST(MixtureTest, IsTheLogarithmOfTheWeightedDistributions) {
  Random random;
  for (int round = 0; round < 50; ++round) {
    const int vocab_size = random.Int(1, 700);
    const Rows rows = RandomRows(random.Int(1, 6), vocab_size, &random);
    Mixture mixture(vocab_size);
    mixture.Begin();
    for (size_t i = 0; i < rows.logits.size(); ++i) mixture.Add(rows.logits[i], rows.weights[i]);
    const std::span<const float> logits = mixture.Logits();
    const std::vector<double> expected = Reference(rows);
    for (size_t v = 0; v < expected.size(); ++v) {
      EXPECT_NEAR(logits[v], expected[v], 2e-6 + 1e-6 * std::abs(expected[v])) << v;
    }
  }
}

TEST(MixtureTest, WhatNoRowCanShowIsFiniteAndLeast) {
  Mixture mixture(3);
  mixture.Begin();
  mixture.Add(std::vector<float>{0, -1000, -80}, 1.0f);
  EXPECT_NEAR(mixture.Logits()[0], 0, 1e-6);
  EXPECT_EQ(mixture.Logits()[1], kLeastMixed);
  EXPECT_NEAR(mixture.Logits()[2], -80, 1e-4);
}

TEST(MixtureTest, ARowThatIsNotFiniteSpoilsItsOwnMixtureAlone) {
  Mixture mixture(2);
  mixture.Begin();
  mixture.Add(std::vector<float>{0, 1}, 0.5f);
  mixture.Add(std::vector<float>{0, INFINITY}, 0.5f);
  EXPECT_TRUE(std::isnan(mixture.Logits()[0]));
  mixture.Begin();
  mixture.Add(std::vector<float>{0, 1}, 1.0f);
  EXPECT_NEAR(mixture.Logits()[1], 1 - std::log(1 + std::exp(1.0)), 1e-6);
}

// Rows by themselves beside mixtures, as a step brings them.
TEST(MixtureTest, AllRowsOfAMixtureGetOneTokenAndOthersTheirOwn) {
  Random random;
  constexpr int kVocab = 300;
  for (int round = 0; round < 30; ++round) {
    StepSampler step(kVocab, 1), alone(kVocab, 1);
    Batch batch;
    std::vector<std::vector<float>> rows;
    std::vector<int32_t> expected;
    std::vector<std::vector<double>> mixtures;
    for (int g = 0; g < 5; ++g) {
      const int n_rows = random.Int(1, 4);
      const Rows mixed = RandomRows(n_rows, kVocab, &random);
      RowSampling first;
      first.temperature = g % 2 == 0 ? 0.0f : 0.9f;
      first.top_p = 0.9f;
      first.seed = 5;
      first.position = static_cast<uint64_t>(round);
      first.n_logprobs = 2;
      std::vector<float> logits = mixed.logits[0];
      if (n_rows > 1) {
        Mixture mixture(kVocab);
        mixture.Begin();
        for (int i = 0; i < n_rows; ++i) mixture.Add(mixed.logits[i], mixed.weights[i]);
        const std::span<const float> log_p = mixture.Logits();
        logits.assign(log_p.begin(), log_p.end());
      }
      expected.insert(expected.end(), static_cast<size_t>(n_rows), Sampler(kVocab).Sample(first, logits));
      mixtures.push_back(Reference(mixed));
      first.mix_rows = n_rows;
      for (int i = 0; i < n_rows; ++i) {
        RowSampling row = i == 0 ? first : RowSampling();
        row.mix_weight = n_rows > 1 ? mixed.weights[i] : 0.0f;
        batch.sampling.push_back(row);
        rows.push_back(mixed.logits[i]);
      }
    }
    batch.logit_rows.resize(rows.size());
    StepOutput output;
    step.Begin(batch, &output);
    for (size_t r = 0; r < rows.size(); ++r) {
      ASSERT_EQ(step.TopNeeded(static_cast<int>(r), kMaxTopLogits), 0);
      step.TakeRow(std::span<const float>(rows[r]));
    }
    ASSERT_EQ(output.tokens, expected);
    ASSERT_EQ(output.logprobs.size(), 5u * 3);
    for (size_t g = 0, r = 0; g < 5; r += static_cast<size_t>(batch.sampling[r].mix_rows), ++g) {
      const TokenLogprob& scored = output.logprobs[3 * g];
      ASSERT_EQ(scored.token, expected[r]);
      ASSERT_NEAR(scored.logprob, mixtures[g][static_cast<size_t>(scored.token)], 1e-5);
    }
  }
}

}  // namespace
}  // namespace coterie::cpu
