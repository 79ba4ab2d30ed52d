#include "router/routing_policy.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "common/member_weights.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "router/mixture_weights.h"
#include "tests/router/router_testing.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Selection = RoutingOptions::Selection;

RoutePlan RouteWith(RoutingOptions options, const ExpertIndex& index, std::vector<std::string> domains = {},
                    const ExpertMask* allowed = nullptr) {
  const auto policy = CreateRoutingPolicy(std::move(options)).value();
  return policy->Route(index, {.embedding = kAxis, .domains = domains, .allowed = allowed}).value();
}

std::vector<std::string> Names(const RoutePlan& plan) {
  std::vector<std::string> names;
  for (const PlannedExpert& expert : plan.experts) names.push_back(expert.name);
  return names;
}

std::shared_ptr<const ExpertIndex> ThreeExperts() {
  return MakeIndex({MakeExpert("postgres", AtCosine(0.62f), {"sql"}), MakeExpert("python", AtCosine(0.41f)),
                    MakeExpert("law", AtCosine(-0.2f), {"law", "contracts"})});
}

ExpertMask Only(const ExpertIndex& index, const std::vector<std::string>& names) {
  return index.MaskOf(names);
}

TEST(NearestPolicyTest, TakesTheBestExpertAndSaysWhy) {
  const auto index = ThreeExperts();
  const RoutePlan plan = RouteWith({}, *index);
  EXPECT_THAT(Names(plan), ElementsAre("postgres"));
  EXPECT_FALSE(plan.base);
  EXPECT_EQ(plan.policy, "nearest");
  EXPECT_EQ(plan.reason, "nearest: postgres 0.62, next python 0.41, margin 0.21");
  EXPECT_NEAR(plan.margin, 0.21f, 1e-5);
  EXPECT_FLOAT_EQ(plan.experts[0].score, 0.62f);
  EXPECT_EQ(plan.experts[0].weight, 1.0f);
  EXPECT_EQ(plan.experts[0].adapter, Sha256("adapter of postgres"));
  EXPECT_EQ(plan.catalogue_generation, 7u);
  ASSERT_EQ(plan.candidates.size(), 3u);
  EXPECT_EQ(plan.candidates[2].name, "law");
}

TEST(NearestPolicyTest, AloneItHasNoRival) {
  const auto index = MakeIndex({MakeExpert("only", AtCosine(0.5f))});
  const RoutePlan plan = RouteWith({.min_margin = 0.5f}, *index);
  EXPECT_EQ(plan.reason, "nearest: only 0.50, the only candidate");
  EXPECT_EQ(plan.margin, 1.0f);
}

TEST(NearestPolicyTest, TheFilterDecidesWhoMayBeChosen) {
  const auto index = ThreeExperts();
  const ExpertMask mask = Only(*index, {"python", "law"});
  EXPECT_THAT(Names(RouteWith({}, *index, {}, &mask)), ElementsAre("python"));
  const ExpertMask none(3);
  const RoutePlan plan = RouteWith({}, *index, {}, &none);
  EXPECT_TRUE(plan.base);
  EXPECT_EQ(plan.reason, "base: no expert that this caller may use can be weighed");
}

TEST(NearestPolicyTest, AnEmptyCatalogueIsAnsweredByTheBase) {
  const RoutePlan plan = RouteWith({}, *MakeIndex({}));
  EXPECT_TRUE(plan.base);
  EXPECT_TRUE(plan.experts.empty());
  EXPECT_EQ(plan.reason, "base: the catalogue holds no experts");
}

TEST(NearestPolicyTest, TheListOfCandidatesIsBounded) {
  const auto policy = CreateRoutingPolicy({}).value();
  const RoutePlan plan = policy->Route(*ThreeExperts(), {.embedding = kAxis, .max_candidates = 1}).value();
  EXPECT_EQ(plan.candidates.size(), 1u);
  EXPECT_NEAR(plan.margin, 0.21f, 1e-5);
}

TEST(AbstainPolicyTest, ALowScoreGoesToTheBase) {
  const auto index =
      MakeIndex({MakeExpert("postgres", AtCosine(0.12f)), MakeExpert("python", AtCosine(0.02f))});
  const RoutePlan plan = RouteWith({.min_score = 0.2f}, *index);
  EXPECT_TRUE(plan.base);
  EXPECT_TRUE(plan.experts.empty());
  EXPECT_EQ(plan.reason, "abstained: best score 0.12 (postgres) below 0.20");
  EXPECT_EQ(plan.candidates[0].name, "postgres");
}

TEST(AbstainPolicyTest, ASmallMarginGoesToTheBase) {
  const auto index =
      MakeIndex({MakeExpert("postgres", AtCosine(0.62f)), MakeExpert("python", AtCosine(0.60f))});
  const RoutePlan plan = RouteWith({.min_margin = 0.05f}, *index);
  EXPECT_TRUE(plan.base);
  EXPECT_EQ(plan.reason, "abstained: margin 0.02 (postgres 0.62) below 0.05");
}

TEST(AbstainPolicyTest, AnExpertsOwnThresholdReplacesTheGeneralOne) {
  IndexedExpert strict = MakeExpert("strict", AtCosine(0.62f));
  strict.min_score = 0.7f;
  EXPECT_EQ(RouteWith({}, *MakeIndex({strict})).reason, "abstained: best score 0.62 (strict) below 0.70");
  IndexedExpert lenient = MakeExpert("lenient", AtCosine(0.1f));
  lenient.min_score = 0.05f;
  EXPECT_FALSE(RouteWith({}, *MakeIndex({lenient})).base);
}

TEST(RulesPolicyTest, ADeclaredDomainDecidesWhateverTheScore) {
  const RoutePlan plan = RouteWith({}, *ThreeExperts(), {"medicine", "law"});
  EXPECT_THAT(Names(plan), ElementsAre("law"));
  EXPECT_EQ(plan.reason, "rule: domain=law -> law");
  EXPECT_EQ(plan.policy, "rules");
  EXPECT_FLOAT_EQ(plan.experts[0].score, -0.2f);
}

TEST(RulesPolicyTest, TheMatrixComesBeforeTheCards) {
  const RoutePlan plan = RouteWith({.rules = {{"sql", "python"}}}, *ThreeExperts(), {"sql"});
  EXPECT_EQ(plan.reason, "rule: domain=sql -> python");
}

TEST(RulesPolicyTest, OfSeveralClaimantsTheNearestAnswers) {
  const auto index =
      MakeIndex({MakeExpert("a", AtCosine(0.3f), {"sql"}), MakeExpert("b", AtCosine(0.5f), {"sql"})});
  const RoutePlan plan = RouteWith({}, *index, {"sql"});
  EXPECT_EQ(plan.reason, "rule: domain=sql -> b (nearest of 2, score 0.50, margin 0.20)");
}

TEST(RulesPolicyTest, ARuleForAnExpertThatIsNotThereIsSaidAndPassedOver) {
  const auto index = ThreeExperts();
  EXPECT_EQ(RouteWith({.rules = {{"go", "golang"}}}, *index, {"go"}).reason,
            "rule domain=go names golang, which the catalogue lacks; "
            "nearest: postgres 0.62, next python 0.41, margin 0.21");
  const ExpertMask mask = Only(*index, {"postgres", "law"});
  const RoutePlan plan = RouteWith({.rules = {{"sql", "python"}}}, *index, {"sql"}, &mask);
  EXPECT_EQ(plan.reason, "rule: domain=sql -> postgres");  // the card of an allowed expert claims it
}

TEST(RulesPolicyTest, CanBeSwitchedOff) {
  EXPECT_EQ(RouteWith({.use_rules = false}, *ThreeExperts(), {"law"}).policy, "nearest");
}

TEST(RulesPolicyTest, AnExpertWithoutPrototypesCanBeFoundByRule) {
  const auto index = MakeIndex({MakeExpert("blank", {}, {"x"}), MakeExpert("b", kAxis)});
  EXPECT_THAT(Names(RouteWith({}, *index, {"x"})), ElementsAre("blank"));
  EXPECT_THAT(Names(RouteWith({}, *index)), ElementsAre("b"));
}

TEST(TopKPolicyTest, WeightsAreTheSoftmaxOfSquaredDistances) {
  const RoutePlan plan =
      RouteWith({.selection = Selection::kTopK, .top_k = 2, .temperature = 0.2f}, *ThreeExperts());
  EXPECT_THAT(Names(plan), ElementsAre("postgres", "python"));
  // |e - c|^2 = 2 - 2 cos.
  const double a = std::exp(-(2 - 2 * 0.62) / 0.2), b = std::exp(-(2 - 2 * 0.41) / 0.2);
  EXPECT_NEAR(plan.experts[0].weight, a / (a + b), 1.0 / 64);
  EXPECT_NEAR(plan.experts[1].weight, b / (a + b), 1.0 / 64);
  EXPECT_EQ(plan.reason, "top_k: postgres 0.62 (weight 0.91), python 0.41 (weight 0.09), margin 0.21");
}

// The same experts and weights, and the difference by its name.
TEST(TopKPolicyTest, BlendsWhileMixtureMixesTheSameExperts) {
  RoutingOptions options{.selection = Selection::kTopK, .top_k = 2, .temperature = 0.2f};
  const RoutePlan blend = RouteWith(options, *ThreeExperts());
  options.selection = Selection::kMixture;
  const RoutePlan mixture = RouteWith(options, *ThreeExperts());
  EXPECT_EQ(blend.mode, CollaborationMode::kBlend);
  EXPECT_EQ(mixture.mode, CollaborationMode::kMixture);
  EXPECT_EQ(mixture.policy, "mixture");
  EXPECT_EQ(mixture.reason, "mixture: postgres 0.62 (weight 0.91), python 0.41 (weight 0.09), margin 0.21");
  EXPECT_EQ(Names(mixture), Names(blend));
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(mixture.experts[i].weight, blend.experts[i].weight);
  options.top_k = 1;
  EXPECT_EQ(RouteWith(options, *ThreeExperts()).mode, CollaborationMode::kNone) << "one expert is alone";
  options.min_score = 0.9f;
  EXPECT_EQ(RouteWith(options, *ThreeExperts()).mode, CollaborationMode::kNone) << "so is the base";
}

TEST(TopKPolicyTest, WeightsAreWholeThirtySecondsThatSumToOne) {
  EXPECT_THAT(RoundWeights(std::vector<float>{1}), ElementsAre(1));
  EXPECT_THAT(RoundWeights(std::vector<float>{0.5f, 0.5f}), ElementsAre(0.5f, 0.5f));
  EXPECT_THAT(RoundWeights(std::vector<float>{0.99f, 0.01f}), ElementsAre(1, 0)) << "below 1/64";
  EXPECT_THAT(RoundWeights(std::vector<float>{0.984f, 0.016f}), ElementsAre(31.0f / 32, 1.0f / 32));
  std::mt19937 random(testing::TestSeed());
  std::exponential_distribution<float> draw;
  for (int i = 0; i < 2000; ++i) {
    std::vector<float> weights(1 + random() % 16);
    float sum = 0;
    for (float& weight : weights) sum += weight = draw(random) * (random() % 4 == 0 ? 0.01f : 1.0f);
    for (float& weight : weights) weight /= sum;
    const std::vector<float> rounded = RoundWeights(weights);
    ASSERT_EQ(rounded.size(), weights.size());
    float total = 0;
    for (size_t e = 0; e < weights.size(); ++e) {
      ASSERT_EQ(rounded[e] * 32, std::floor(rounded[e] * 32));
      ASSERT_EQ(rounded[e] == 0, weights[e] < 1.0f / 64) << weights[e];
      // Half a part by rounding, one more where the sum wants it, and what the dropped ones weighed.
      ASSERT_NEAR(rounded[e], weights[e], 1.5f / 32 + 16.0f / 64);
      total += rounded[e];
    }
    ASSERT_EQ(total, 1.0f);
  }
}

TEST(TopKPolicyTest, FewerExpertsThanKShareTheWholeWeight) {
  const auto index = MakeIndex({MakeExpert("a", AtCosine(0.5f)), MakeExpert("b", AtCosine(0.5f, 1))});
  const RoutePlan plan = RouteWith({.selection = Selection::kTopK, .top_k = 4}, *index);
  ASSERT_EQ(plan.experts.size(), 2u);
  EXPECT_NEAR(plan.experts[0].weight, 0.5f, 1e-5);
  EXPECT_NEAR(plan.experts[0].weight + plan.experts[1].weight, 1.0f, 1e-6);
}

TEST(TopKPolicyTest, WhatWeighsNothingIsNotPlanned) {
  for (const Selection selection : {Selection::kTopK, Selection::kAdaptiveK}) {
    const RoutePlan plan = RouteWith(
        {.selection = selection, .top_k = 3, .temperature = 1e-3f, .confident_margin = 2, .adaptive_mass = 1},
        *ThreeExperts());
    EXPECT_THAT(Names(plan), ElementsAre("postgres"));
    EXPECT_EQ(plan.experts[0].weight, 1.0f);
  }
}

TEST(AdaptiveKPolicyTest, AConfidentMarginTakesOne) {
  const RoutePlan plan =
      RouteWith({.selection = Selection::kAdaptiveK, .confident_margin = 0.2f}, *ThreeExperts());
  EXPECT_THAT(Names(plan), ElementsAre("postgres"));
  EXPECT_EQ(plan.reason, "adaptive_k: postgres 0.62, next python 0.41, margin 0.21, confident from 0.20");
}

TEST(AdaptiveKPolicyTest, OtherwiseTheSmallestSetThatHoldsTheMass) {
  const auto index = MakeIndex({MakeExpert("a", AtCosine(0.50f)), MakeExpert("b", AtCosine(0.48f)),
                                MakeExpert("c", AtCosine(0.46f)), MakeExpert("d", AtCosine(-0.9f))});
  RoutingOptions options{.selection = Selection::kAdaptiveK, .top_k = 8, .adaptive_mass = 0.7f};
  const RoutePlan two = RouteWith(options, *index);
  // Shares 1 : e^-0.4 : e^-0.8 : nothing = 0.47, 0.32, 0.21.
  EXPECT_THAT(Names(two), ElementsAre("a", "b"));
  EXPECT_NEAR(two.experts[0].weight, 1 / (1 + std::exp(-0.4)), 1.0 / 64);
  EXPECT_THAT(two.reason, HasSubstr("2 experts hold 0.79 of the mass (want 0.70)"));
  options.adaptive_mass = 0.9f;
  EXPECT_THAT(Names(RouteWith(options, *index)), ElementsAre("a", "b", "c"));
  options.top_k = 2;
  EXPECT_THAT(Names(RouteWith(options, *index)), ElementsAre("a", "b"));
}

// The int8 first pass must change nothing: what adaptive_k makes of bounds is what it would make of every
// score.
TEST(AdaptiveKPolicyTest, ALargeIndexIsDecidedAsIfEveryScoreWereKnown) {
  constexpr size_t kDim = 96;
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-1, 1);
  int n_several = 0;
  for (const float spread : {0.0f, 0.05f, 0.3f, 1.0f, 10.0f}) {
    const auto centre = RandomUnit(kDim, &random);
    const auto near = [&] {
      std::vector<float> v(kDim);
      double norm = 0;
      for (size_t i = 0; i < kDim; ++i) {
        v[i] = centre[i] + spread * uniform(random) / std::sqrt(static_cast<float>(kDim));
        norm += static_cast<double>(v[i]) * v[i];
      }
      for (float& x : v) x = static_cast<float>(x / std::sqrt(norm));
      return v;
    };
    std::vector<IndexedExpert> experts;
    for (size_t i = 0; i < 900; ++i) {
      std::vector<float> prototypes = near();
      const auto second = near();
      prototypes.insert(prototypes.end(), second.begin(), second.end());
      experts.push_back(MakeExpert("e" + std::to_string(i), std::move(prototypes)));
    }
    const auto index = ExpertIndex::Create({.dim = kDim}, std::move(experts)).value();
    for (const float temperature : {0.002f, 0.02f, 0.1f, 1.0f}) {
      for (const float mass : {0.02f, 0.3f, 0.9f}) {
        const RoutingOptions options{.selection = Selection::kAdaptiveK,
                                     .min_score = -1,
                                     .top_k = 16,
                                     .temperature = temperature,
                                     .confident_margin = 2,
                                     .adaptive_mass = mass};
        const auto policy = CreateRoutingPolicy(options).value();
        for (int round = 0; round < 4; ++round) {
          const auto query = near();
          const RoutePlan plan = policy->Route(*index, {.embedding = query}).value();
          auto hits = index->ScoreAll(query, nullptr).value();
          std::sort(hits.begin(), hits.end(), ExpertIndex::Better);
          const auto mass_of = [&](const ExpertIndex::Hit& hit) {
            return std::exp(2.0 * (static_cast<double>(hit.score) - hits[0].score) / temperature);
          };
          double whole = 0, reached = 0;
          for (const auto& hit : hits) whole += mass_of(hit);
          size_t k = 0;
          while (k < 16 && reached < mass * whole * (1 - 1e-12)) reached += mass_of(hits[k++]);
          n_several += k > 1 && k < 16;
          std::vector<float> weights;
          for (size_t i = 0; i < k; ++i) weights.push_back(static_cast<float>(mass_of(hits[i]) / reached));
          weights = RoundWeights(weights);
          const size_t n_planned = k - static_cast<size_t>(std::ranges::count(weights, 0.0f));
          ASSERT_EQ(plan.experts.size(), n_planned)
              << spread << " " << temperature << " " << mass << " " << plan.reason;
          for (size_t i = 0; i < n_planned; ++i) {  // the first ones weigh most
            EXPECT_EQ(plan.experts[i].name, index->expert(hits[i].expert).name);
            EXPECT_EQ(plan.experts[i].score, hits[i].score);
            EXPECT_EQ(plan.experts[i].weight, weights[i]);
          }
          EXPECT_THAT(plan.reason, HasSubstr(absl::StrCat(k, k == 1 ? " expert holds " : " experts hold ")));
        }
      }
    }
  }
  EXPECT_GT(n_several, 20);  // the cases that hang on the whole mass
}

ClassifierWeights TwoClasses() {
  return {.classes = {"python", "postgres"}, .weights = {0, 0, 0, 2, 0, 0}, .bias = {0.5f, 0}};
}

TEST(ClassifierPolicyTest, TakesTheMostProbableClass) {
  const RoutePlan plan =
      RouteWith({.selection = Selection::kClassifier, .classifier = TwoClasses()}, *ThreeExperts());
  EXPECT_THAT(Names(plan), ElementsAre("postgres"));
  const float p = 1 / (1 + std::exp(-1.5f));
  EXPECT_NEAR(plan.experts[0].score, p, 1e-5);
  EXPECT_NEAR(plan.margin, 2 * p - 1, 1e-5);
  EXPECT_EQ(plan.reason, "classifier: postgres 0.82, next python 0.18, margin 0.64");
}

TEST(ClassifierPolicyTest, ClassesTheCallerMayNotUseAreLeftOut) {
  const auto index = ThreeExperts();
  const ExpertMask mask = Only(*index, {"python"});
  const RoutePlan plan =
      RouteWith({.selection = Selection::kClassifier, .classifier = TwoClasses()}, *index, {}, &mask);
  EXPECT_THAT(Names(plan), ElementsAre("python"));
  EXPECT_EQ(plan.experts[0].score, 1.0f);
}

TEST(ClassifierPolicyTest, ValuesThatOverflowAreAnErrorNotARoute) {
  ClassifierWeights weights = TwoClasses();
  std::fill(weights.weights.begin(), weights.weights.end(), 3e38f);
  weights.bias = {3e38f, 0};
  const auto policy =
      CreateRoutingPolicy({.selection = Selection::kClassifier, .classifier = std::move(weights)}).value();
  const Status status = policy->Route(*ThreeExperts(), {.embedding = kAxis}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("class python is not a finite number"), absl::string_view::npos) << status;
}

TEST(ClassifierPolicyTest, ADimensionThatDoesNotFitIsRefused) {
  const auto policy = CreateRoutingPolicy({.selection = Selection::kClassifier,
                                           .classifier = {.classes = {"a"}, .weights = {1, 2}, .bias = {0}}})
                          .value();
  EXPECT_EQ(policy->Route(*ThreeExperts(), {.embedding = kAxis}).status().message(),
            "classifier of dimension 2, the expert index has 3");
}

TEST(RoutingPolicyTest, EveryPolicyRefusesAnEmbeddingWithNan) {
  const std::vector<float> nan = {NAN, 0, 0};
  for (Selection selection :
       {Selection::kNearest, Selection::kTopK, Selection::kAdaptiveK, Selection::kClassifier}) {
    const auto policy = CreateRoutingPolicy({.selection = selection, .classifier = TwoClasses()}).value();
    const std::vector<std::string> domains = {"sql"};
    EXPECT_EQ(policy->Route(*ThreeExperts(), {.embedding = nan}).status().code(),
              absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(policy->Route(*ThreeExperts(), {.embedding = nan, .domains = domains}).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(RoutingPolicyTest, OptionsOutsideTheirRangeAreNamed) {
  const auto refusal = [](RoutingOptions options) {
    const auto policy = CreateRoutingPolicy(std::move(options));
    EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(ToStd(policy.status().message()));
  };
  EXPECT_EQ(refusal({.min_score = 1.5f}), "routing option min_score = 1.5 is outside -1..1");
  EXPECT_EQ(refusal({.min_margin = -1}), "routing option min_margin = -1 is outside 0..2");
  EXPECT_EQ(refusal({.top_k = 0}), "routing option top_k = 0 is outside 1..16");
  EXPECT_EQ(refusal({.temperature = NAN}), "routing option temperature = nan is outside 0.001..100");
  EXPECT_EQ(refusal({.adaptive_mass = 0}), "routing option adaptive_mass = 0 is outside 0.001..1");
  EXPECT_EQ(refusal({.selection = Selection::kClassifier}), "routing option classifier has no classes");
  EXPECT_EQ(refusal({.selection = Selection::kClassifier,
                     .classifier = {.classes = {"a", "b"}, .weights = {1, 2, 3}, .bias = {0, 0}}}),
            "routing option classifier: 2 classes with 2 biases and 3 weights, want [n_classes] and "
            "[n_classes, dim]");
  EXPECT_THAT(refusal({.rules = {{"sql", "Bad Name"}}}),
              HasSubstr("rule for domain sql: expert name \"Bad Name\""));
}

TEST(RoutingPolicyTest, SelectionsHaveNames) {
  EXPECT_EQ(ParseSelection("adaptive_k").value(), Selection::kAdaptiveK);
  EXPECT_EQ(ParseSelection("best").status().message(),
            "routing policy \"best\" is none of nearest, top_k, mixture, adaptive_k, classifier");
}

TEST(RoutingPolicyTest, PlansThatWereAskedForByNameSaySo) {
  const RoutePlan named = PlanForExpert({.name = "python", .digest = Sha256("x")}, 3);
  EXPECT_THAT(Names(named), ElementsAre("python"));
  EXPECT_EQ(named.reason, "asked for by name");
  EXPECT_EQ(named.experts[0].weight, 1.0f);
  EXPECT_EQ(named.catalogue_generation, 3u);
  EXPECT_TRUE(PlanForBase(3).base);
}

}  // namespace
}  // namespace coterie
