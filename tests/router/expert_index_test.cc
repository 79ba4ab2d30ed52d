#include "router/expert_index.h"

#include <algorithm>
#include <limits>
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/dot_rows.h"
#include "tests/router/router_testing.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> Names(const ExpertIndex& index, const std::vector<ExpertIndex::Hit>& hits) {
  std::vector<std::string> names;
  for (const auto& hit : hits) names.emplace_back(index.expert(hit.expert).name);
  return names;
}

TEST(ExpertIndexTest, AnExpertScoresAsItsNearestPrototype) {
  std::vector<float> two = AtCosine(0.1f);
  const std::vector<float> near = AtCosine(0.9f);
  two.insert(two.end(), near.begin(), near.end());
  const auto index = MakeIndex({MakeExpert("two", two), MakeExpert("one", AtCosine(0.5f))});
  const auto hits = index->Search(kAxis, 5, nullptr).value();
  EXPECT_THAT(Names(*index, hits), ElementsAre("two", "one"));
  EXPECT_FLOAT_EQ(hits[0].score, 0.9f);
  EXPECT_FLOAT_EQ(index->Score(kAxis, *index->Find("one")).value(), 0.5f);
}

TEST(ExpertIndexTest, EqualScoresFallToTheSmallerName) {
  const auto index = MakeIndex({MakeExpert("c", kAxis), MakeExpert("a", kAxis), MakeExpert("b", kAxis)});
  EXPECT_THAT(Names(*index, index->Search(kAxis, 2, nullptr).value()), ElementsAre("a", "b"));
}

// A double-precision scan and a full sort, over random sizes, masks and k.
TEST(ExpertIndexTest, FindsWhatAPlainScanFinds) {
  std::mt19937 random(1);
  for (int round = 0; round < 60; ++round) {
    const size_t dim = 1 + random() % 70, n = 1 + random() % 90, k = random() % 12;
    std::vector<IndexedExpert> experts;
    for (size_t i = 0; i < n; ++i) {
      std::vector<float> prototypes;
      for (size_t p = random() % 5; p > 0; --p) {
        const auto v = RandomUnit(dim, &random);
        prototypes.insert(prototypes.end(), v.begin(), v.end());
      }
      experts.push_back(MakeExpert("e" + std::to_string(1000 + i), prototypes));
    }
    const auto query = RandomUnit(dim, &random);
    const auto index = ExpertIndex::Create({.dim = dim}, experts).value();
    ExpertMask mask(n);
    std::vector<std::pair<double, size_t>> expected;  // (-score, expert)
    for (size_t i = 0; i < n; ++i) {
      if (random() % 3 == 0) continue;
      mask.Set(i);
      double best = -std::numeric_limits<double>::infinity();
      for (size_t row = 0; row < experts[i].prototypes.size() / dim; ++row) {
        double dot = 0;
        for (size_t d = 0; d < dim; ++d)
          dot += static_cast<double>(query[d]) * experts[i].prototypes[row * dim + d];
        best = std::max(best, dot);
      }
      if (!experts[i].prototypes.empty()) expected.emplace_back(-best, i);
    }
    std::sort(expected.begin(), expected.end());
    const auto hits = index->Search(query, k, &mask).value();
    ASSERT_EQ(hits.size(), std::min(k, expected.size()));
    for (size_t i = 0; i < hits.size(); ++i) {
      EXPECT_NEAR(hits[i].score, -expected[i].first, 1e-5);
      // In one dimension every score is 1 or -1 up to rounding, so that only scores can be compared.
      if (dim > 1) {
        EXPECT_EQ(hits[i].expert, expected[i].second);
      }
    }
  }
}

TEST(ExpertIndexTest, AScoreDoesNotDependOnTheRowsBesideIt) {
  std::mt19937 random(2);
  const size_t stride = 400;
  std::vector<float> rows;
  for (int r = 0; r < 11; ++r) {
    const auto row = RandomUnit(stride, &random);
    rows.insert(rows.end(), row.begin(), row.end());
  }
  const auto query = RandomUnit(stride, &random);
  std::vector<float> together(11);
  DotRows(query, rows.data(), together);
  for (size_t r = 0; r < 11; ++r) {
    float alone = 0;
    DotRows(query, rows.data() + r * stride, {&alone, 1});
    EXPECT_EQ(alone, together[r]) << r;
  }
}

// The int8 first pass must change nothing: not the experts, not their order, not a bit of their scores.
TEST(ExpertIndexTest, ALargeIndexFindsExactlyWhatItsFullScanFinds) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-1, 1);
  for (const size_t dim : {3, 17, 384}) {
    for (const float spread : {0.0f, 0.01f, 0.3f, 10.0f}) {  // 0: all rows alike, every score a tie
      const auto centre = RandomUnit(dim, &random);
      const auto near = [&] {
        std::vector<float> v(dim);
        double norm = 0;
        for (size_t i = 0; i < dim; ++i) {
          v[i] = centre[i] + spread * uniform(random) / std::sqrt(static_cast<float>(dim));
          norm += static_cast<double>(v[i]) * v[i];
        }
        for (float& x : v) x = static_cast<float>(x / std::sqrt(norm));
        return v;
      };
      std::vector<IndexedExpert> experts;
      for (size_t i = 0; i < 700; ++i) {
        std::vector<float> prototypes;
        for (size_t p = random() % 4; p > 0; --p) {
          const auto row = near();
          prototypes.insert(prototypes.end(), row.begin(), row.end());
        }
        experts.push_back(MakeExpert("e" + std::to_string(i), prototypes));
      }
      const auto index = ExpertIndex::Create({.dim = dim}, experts).value();
      ExpertMask most(index->size());
      for (size_t i = 0; i < index->size(); ++i) {
        if (random() % 4 != 0) most.Set(i);
      }
      for (int round = 0; round < 10; ++round) {
        auto query = round % 2 == 0 ? near() : RandomUnit(dim, &random);
        if (round == 7) query.assign(dim, 0.0f);
        if (round == 8) std::for_each(query.begin(), query.end(), [](float& x) { x *= 1e30f; });
        if (round == 9) std::for_each(query.begin(), query.end(), [](float& x) { x *= 1.3f; });
        for (const ExpertMask* mask :
             {static_cast<const ExpertMask*>(nullptr), static_cast<const ExpertMask*>(&most)}) {
          auto expected = index->ScoreAll(query, mask).value();
          std::sort(expected.begin(), expected.end(), ExpertIndex::Better);
          for (const size_t k : {1, 5, 40}) {
            const auto hits = index->Search(query, k, mask).value();
            ASSERT_EQ(hits.size(), k);
            for (size_t i = 0; i < k; ++i) {
              ASSERT_EQ(hits[i].expert, expected[i].expert)
                  << dim << " " << spread << " " << round << " " << i;
              ASSERT_EQ(hits[i].score, expected[i].score);
            }
          }
        }
      }
    }
  }
}

TEST(ExpertIndexTest, TheBoundsOfTheFirstPassHold) {
  if (!router_internal::QuantizedRows::Supported())
    GTEST_SKIP() << "this machine has no AVX2: no first pass here";
  std::mt19937 random(4);
  const size_t stride = 384, n_rows = 100;
  std::vector<float> rows;
  for (size_t r = 0; r < n_rows; ++r) {
    auto row = RandomUnit(stride, &random);
    if (r % 5 == 0) row.assign(stride, 0.0f), row[r] = -1;  // nothing is lost of these
    rows.insert(rows.end(), row.begin(), row.end());
  }
  const router_internal::QuantizedRows quantized(rows, stride);
  std::vector<float> lower(n_rows), upper(n_rows), exact(n_rows);
  for (int round = 0; round < 50; ++round) {
    const auto query = RandomUnit(stride, &random);
    const auto prepared = router_internal::QuantizedRows::Prepare(query);
    ASSERT_TRUE(prepared.near_unit_norm);
    quantized.Bounds(prepared, lower.data(), upper.data());
    std::vector<float> lower_avx2(n_rows), upper_avx2(n_rows);
    quantized.Bounds(prepared, lower_avx2.data(), upper_avx2.data(), /*use_vnni=*/false);
    EXPECT_EQ(lower, lower_avx2);
    EXPECT_EQ(upper, upper_avx2);
    DotRows(query, rows.data(), exact);
    for (size_t r = 0; r < n_rows; ++r) {
      EXPECT_LE(lower[r], exact[r]);
      EXPECT_GE(upper[r], exact[r]);
      EXPECT_LT(upper[r] - lower[r], 0.06f);
    }
  }
}

bool SameHits(const std::vector<ExpertIndex::Hit>& a, const std::vector<ExpertIndex::Hit>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.expert == y.expert && x.score == y.score; });
}

// Whatever way an index came about, it answers as one that was made at once.
TEST(ExpertIndexTest, ChangedStepByStepItIsTheIndexMadeAtOnce) {
  std::mt19937 random(6);
  const size_t dim = 24;
  const ExpertIndex::Options options{.dim = dim};
  std::map<std::string, IndexedExpert> now;
  auto index = ExpertIndex::Create(options, {}).value();
  for (int round = 0; round < 120; ++round) {
    ExpertIndex::Change change{.generation = static_cast<uint64_t>(round)};
    // Many come and go now and then, mostly one or two.
    const size_t n_changes = round % 20 == 0 ? 400 : 1 + random() % 3;
    for (size_t i = 0; i < n_changes; ++i) {
      const std::string name = "e" + std::to_string(random() % 900);
      const bool touched =
          std::any_of(change.put.begin(), change.put.end(),
                      [&](const IndexedExpert& expert) { return expert.name == name; }) ||
          std::find(change.removed.begin(), change.removed.end(), name) != change.removed.end();
      if (touched) continue;
      if (random() % (round % 40 == 20 ? 1 : 4) == 0) {
        change.removed.push_back(name);  // perhaps not there
        now.erase(name);
        continue;
      }
      std::vector<float> prototypes;
      for (size_t p = random() % 4; p > 0; --p) {
        const auto row = RandomUnit(dim, &random);
        prototypes.insert(prototypes.end(), row.begin(), row.end());
      }
      now[name] = MakeExpert(name, prototypes, {"d" + std::to_string(random() % 5), "all"});
      now[name].adapter = Sha256(std::to_string(random()));
      if (random() % 2 == 0) now[name].min_score = static_cast<float>(random() % 100) / 100;
      change.put.push_back(now[name]);
    }
    // Who searches meanwhile keeps the index from before, as it was.
    const auto before = index;
    const auto query_before = RandomUnit(dim, &random);
    const auto scores_before = before->ScoreAll(query_before, nullptr).value();
    index = index->With(std::move(change)).value();
    const auto scores_after = before->ScoreAll(query_before, nullptr).value();
    ASSERT_TRUE(SameHits(scores_before, scores_after));
    std::vector<IndexedExpert> all;
    for (const auto& [name, expert] : now) all.push_back(expert);
    const auto fresh = ExpertIndex::Create(options, std::move(all)).value();
    ASSERT_EQ(index->size(), fresh->size());
    ASSERT_EQ(index->n_prototypes(), fresh->n_prototypes());
    EXPECT_EQ(index->generation(), static_cast<uint64_t>(round));
    for (size_t i = 0; i < index->size(); ++i) {
      ASSERT_EQ(index->expert(i).name, fresh->expert(i).name);
      ASSERT_EQ(index->expert(i).adapter, fresh->expert(i).adapter);
      ASSERT_EQ(index->expert(i).min_score, fresh->expert(i).min_score);
      ASSERT_EQ(index->Find(index->expert(i).name), i);
    }
    EXPECT_EQ(index->Find("nobody"), std::nullopt);
    EXPECT_EQ(index->Find("zzz"), std::nullopt);
    const auto same_list = [](std::span<const uint32_t> a, std::span<const uint32_t> b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end());
    };
    for (const char* domain : {"d0", "d4", "all", "none"}) {
      EXPECT_TRUE(same_list(index->WithDomain(domain), fresh->WithDomain(domain))) << domain;
    }
    const auto query = RandomUnit(dim, &random);
    const auto hits = index->Search(query, 7, nullptr).value();
    const auto expected = fresh->Search(query, 7, nullptr).value();
    ASSERT_EQ(hits.size(), expected.size());
    for (size_t i = 0; i < hits.size(); ++i) {
      EXPECT_EQ(hits[i].expert, expected[i].expert);
      EXPECT_EQ(hits[i].score, expected[i].score);
      EXPECT_EQ(index->Score(query, hits[i].expert), hits[i].score);
    }
    EXPECT_TRUE(SameHits(index->ScoreAll(query, nullptr).value(), fresh->ScoreAll(query, nullptr).value()));
  }
}

TEST(ExpertIndexTest, AChangeThatIsRefusedLeavesTheIndexAsItWas) {
  const auto index = MakeIndex({MakeExpert("a", kAxis)});
  EXPECT_EQ(index->With({.put = {MakeExpert("b", {2, 0, 0})}}).status().message(),
            "expert b: prototype 0 has norm 2, want 1 within 0.001");
  EXPECT_EQ(index->With({.put = {MakeExpert("b", kAxis), MakeExpert("b", kAxis)}}).status().message(),
            "expert b is in the index twice");
  EXPECT_EQ(index->size(), 1u);
}

TEST(ExpertIndexTest, AMaskHidesExperts) {
  const auto index =
      MakeIndex({MakeExpert("a", kAxis), MakeExpert("b", AtCosine(0.5f)), MakeExpert("c", kAxis)});
  const std::vector<std::string> just_b = {"b"};
  const ExpertMask mask = index->MaskOf(just_b);
  EXPECT_THAT(Names(*index, index->Search(kAxis, 3, &mask).value()), ElementsAre("b"));
  const std::vector<std::string> names = {"c", "unknown"};
  const ExpertMask listed = index->MaskOf(names);
  EXPECT_THAT(Names(*index, index->Search(kAxis, 3, &listed).value()), ElementsAre("c"));
  const ExpertMask none(index->size());
  EXPECT_TRUE(index->Search(kAxis, 3, &none).value().empty());
}

TEST(ExpertIndexTest, ExpertsAreFoundByNameAndDomain) {
  const auto index = MakeIndex({MakeExpert("b", kAxis, {"sql"}),
                                MakeExpert("a", kAxis, {"law", "sql", "sql"}), MakeExpert("c", kAxis)});
  EXPECT_EQ(index->Find("b"), 1u);
  EXPECT_EQ(index->Find("d"), std::nullopt);
  EXPECT_THAT(index->WithDomain("sql"), ElementsAre(0, 1));
  EXPECT_TRUE(index->WithDomain("medicine").empty());
}

TEST(ExpertIndexTest, AMalformedQueryIsRefused) {
  const auto index = MakeIndex({MakeExpert("a", kAxis)});
  EXPECT_EQ(index->Search(std::vector<float>{1, 0}, 1, nullptr).status().message(),
            "embedding has dimension 2, the expert index has 3");
  EXPECT_EQ(index->Search(std::vector<float>{1, NAN, 0}, 1, nullptr).status().message(),
            "embedding value 1 is nan, not a finite number");
}

TEST(ExpertIndexTest, MalformedExpertsAreRefusedByName) {
  const auto refusal = [](std::vector<IndexedExpert> experts, ExpertIndex::Options options = {.dim = 3}) {
    const Status status = ExpertIndex::Create(options, std::move(experts)).status();
    EXPECT_FALSE(status.ok());
    return std::string(ToStd(status.message()));
  };
  EXPECT_EQ(refusal({MakeExpert("a", {1, 0})}),
            "expert a: 2 prototype values are not a multiple of dimension 3");
  EXPECT_EQ(refusal({MakeExpert("a", {2, 0, 0})}), "expert a: prototype 0 has norm 2, want 1 within 0.001");
  EXPECT_THAT(refusal({MakeExpert("a", {1, 0, 0, 0, NAN, 0})}), HasSubstr("prototype 1 has norm nan"));
  EXPECT_EQ(refusal({MakeExpert("a", kAxis), MakeExpert("a", kAxis)}), "expert a is in the index twice");
  EXPECT_THAT(refusal({MakeExpert("Not/A/Name", kAxis)}), HasSubstr("may hold only"));
  EXPECT_EQ(refusal({MakeExpert("a", kAxis), MakeExpert("b", kAxis)}, {.dim = 3, .max_experts = 1}),
            "index of 2 experts, the limit is 1");
  EXPECT_EQ(refusal({MakeExpert("a", kAxis), MakeExpert("b", kAxis)}, {.dim = 3, .max_prototypes = 1}),
            "index of 2 prototypes, the limit is 1");
  EXPECT_EQ(refusal({}, {.dim = 0}), "index dimension 0 is outside 1..65536");
  IndexedExpert no_digest = MakeExpert("a", kAxis);
  no_digest.adapter = Digest();
  EXPECT_EQ(refusal({no_digest}), "expert a has no adapter digest");
}

TEST(ExpertIndexTest, AnEmptyIndexFindsNothing) {
  const auto index = MakeIndex({});
  EXPECT_TRUE(index->Search(kAxis, 3, nullptr).value().empty());
}

}  // namespace
}  // namespace coterie
