#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/member_weights.h"
#include "router/mixture_weights.h"
#include "router/policies.h"

namespace coterie::router_internal {
namespace {

using Bounded = ExpertIndex::Bounded;

// The c-BTM mass e^(2 s / T) of the experts beyond the ranked ones, relative to the best score: first between
// the bounds that the search left, then, where a decision hangs on it, ever more of it exactly.
class RestOfTheMass {
 public:
  RestOfTheMass(const ExpertIndex* index, const RouteQuery* query, std::vector<Bounded> experts, float best,
                float temperature)
      : index_(index), query_(query), experts_(std::move(experts)), best_(best), temperature_(temperature) {
    for (const Bounded& e : experts_) {
      low_.push_back(MixtureMass<double>(e.lower, best, temperature));
      high_.push_back(e.lower == e.upper ? low_.back() : MixtureMass<double>(e.upper, best, temperature));
    }
    Sum();
  }

  double lower() const { return lower_; }
  double upper() const { return upper_; }

  // Makes the interval smaller: by the most uncertain experts first, by all of them next. False when nothing
  // is left to find out.
  bool Narrow() {
    switch (round_++) {
      case 0:
        ScoreTheMostUncertain();
        break;
      case 1:
        ScoreEverything();
        break;
      default:
        return false;
    }
    Sum();
    return true;
  }

 private:
  // One by one these cost a few times what they would in a scan of all, so they must be few.
  static constexpr size_t kFew = 64;

  void ScoreTheMostUncertain() {
    std::vector<size_t> order(experts_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto few = order.begin() + static_cast<ptrdiff_t>(std::min(order.size(), kFew));
    std::partial_sort(order.begin(), few, order.end(), [&](size_t a, size_t b) {
      const double in_a = high_[a] - low_[a], in_b = high_[b] - low_[b];
      return in_a != in_b ? in_a > in_b : a < b;
    });
    for (auto i = order.begin(); i != few; ++i) {
      if (low_[*i] == high_[*i]) return;
      Know(*i, *index_->Score(query_->embedding, experts_[*i].expert));
    }
  }

  void ScoreEverything() {
    const auto hits = index_->ScoreAll(query_->embedding, query_->allowed);
    if (!hits.ok()) return;  // the query was good enough for the search
    size_t i = 0;
    for (const ExpertIndex::Hit& hit : *hits) {  // both in the order of names
      if (i < experts_.size() && experts_[i].expert == hit.expert) Know(i++, hit.score);
    }
  }

  void Know(size_t i, float score) { low_[i] = high_[i] = MixtureMass<double>(score, best_, temperature_); }

  // In the order of names, so that the sum of known scores does not depend on how they came to be known.
  void Sum() {
    lower_ = std::accumulate(low_.begin(), low_.end(), 0.0);
    upper_ = std::accumulate(high_.begin(), high_.end(), 0.0);
  }

  const ExpertIndex* const index_;
  const RouteQuery* const query_;
  const std::vector<Bounded> experts_;  // by name
  const float best_;
  const float temperature_;
  std::vector<double> low_, high_;  // mass of each
  double lower_ = 0, upper_ = 0;
  int round_ = 0;
};

// One expert where the margin is confident, otherwise a blend of the smallest set whose share of the c-BTM
// mass of all allowed experts reaches `mass`, at most max_k.
class AdaptiveKPolicy : public RoutingPolicy {
 public:
  AdaptiveKPolicy(size_t max_k, float temperature, float confident_margin, float mass)
      : max_k_(max_k), temperature_(temperature), confident_margin_(confident_margin), mass_(mass) {}

  StatusOr<RoutePlan> Route(const ExpertIndex& index, const RouteQuery& query) const override {
    const size_t n_ranked = std::max({query.max_candidates, max_k_, size_t{2}});
    std::vector<Bounded> others;
    ASSIGN_OR_RETURN(const auto ranked,
                     index.SearchAndBound(query.embedding, n_ranked, query.allowed, &others));
    if (ranked.empty()) return NothingToRank("adaptive_k", index, query);
    RoutePlan plan = StartPlan("adaptive_k", index, ranked, query.max_candidates);
    if (plan.margin >= confident_margin_) {
      AddExpert(index, ranked[0], 1.0f, &plan);
      plan.reason = absl::StrCat(RankingInWords(index, plan, ranked), ", confident from ",
                                 TwoDecimals(confident_margin_));
      return plan;
    }
    const float best = ranked[0].score;
    std::vector<double> masses;
    masses.reserve(ranked.size());
    for (const ExpertIndex::Hit& hit : ranked) {
      masses.push_back(MixtureMass<double>(hit.score, best, temperature_));
    }
    const double ranked_mass = std::accumulate(masses.begin(), masses.end(), 0.0);
    RestOfTheMass rest(&index, &query, std::move(others), best, temperature_);
    size_t k = Choose(masses, ranked_mass + rest.lower());
    while (k != Choose(masses, ranked_mass + rest.upper()) && rest.Narrow()) {
      k = Choose(masses, ranked_mass + rest.lower());
    }
    const double mass = std::accumulate(masses.begin(), masses.begin() + static_cast<ptrdiff_t>(k), 0.0);
    std::vector<float> weights;
    for (size_t i = 0; i < k; ++i) weights.push_back(static_cast<float>(masses[i] / mass));
    weights = RoundWeights(weights);
    for (size_t i = 0; i < k; ++i) AddExpert(index, ranked[i], weights[i], &plan);
    SetMode(CollaborationMode::kBlend, &plan);
    // Their share of the whole, as exactly as the decision needed it.
    std::string share = TwoDecimals(static_cast<float>(mass / (ranked_mass + rest.upper())));
    const std::string at_most = TwoDecimals(static_cast<float>(mass / (ranked_mass + rest.lower())));
    if (at_most != share) absl::StrAppend(&share, " to ", at_most);
    plan.reason = absl::StrCat(
        "adaptive_k: margin ", TwoDecimals(plan.margin), " below ", TwoDecimals(confident_margin_), ", ", k,
        k == 1 ? " expert holds " : " experts hold ", share, " of the mass (want ", TwoDecimals(mass_), "):");
    for (const PlannedExpert& expert : plan.experts) {
      absl::StrAppend(&plan.reason, " ", expert.name, " ", TwoDecimals(expert.score), " (weight ",
                      TwoDecimals(expert.weight), ")");
    }
    return plan;
  }

 private:
  // How many of `masses` reach the wanted part of the whole.
  size_t Choose(std::span<const double> masses, double whole) const {
    size_t k = 0;
    for (double mass = 0; k < std::min(max_k_, masses.size()) && mass < mass_ * whole; ++k) mass += masses[k];
    return k;
  }

  const size_t max_k_;
  const float temperature_;
  const float confident_margin_;
  const float mass_;
};

}  // namespace

std::unique_ptr<const RoutingPolicy> MakeAdaptiveKPolicy(size_t max_k, float temperature,
                                                         float confident_margin, float mass) {
  return std::make_unique<AdaptiveKPolicy>(max_k, temperature, confident_margin, mass);
}

}  // namespace coterie::router_internal
