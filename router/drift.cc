#include "router/drift.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace coterie {

DecayingMoments::DecayingMoments(double half_life) : decay_(std::exp2(-1.0 / half_life)) {}

void DecayingMoments::Add(double x) {
  ++n_;
  weight_ = decay_ * weight_ + 1;
  squared_weights_ = decay_ * decay_ * squared_weights_ + 1;
  const double delta = x - mean_;
  mean_ += delta / weight_;
  squares_ = decay_ * squares_ + delta * (x - mean_);
}

double DecayingMoments::variance() const {
  return n_ < 2 ? 0 : squares_ / (weight_ - squared_weights_ / weight_);
}

double DecayingMoments::effective_n() const { return n_ == 0 ? 0 : weight_ * weight_ / squared_weights_; }

double DecayingMoments::standard_error() const { return n_ < 2 ? 0 : std::sqrt(variance() / effective_n()); }

Drift CompareWithReference(const DecayingMoments& scores, const RoutingReference& reference,
                           const DriftOptions& options) {
  Drift drift;
  drift.n = scores.n();
  if (drift.n == 0) return drift;
  drift.mean_score = scores.mean();
  drift.shift = reference.mean_score - scores.mean();
  // The spread of a few texts is hardly known, that of one not at all: no smaller than the questions'.
  const double variance = std::max(reference.std_score * reference.std_score, scores.variance());
  const double of_reference = variance / static_cast<double>(reference.n);
  drift.standard_error = std::sqrt(scores.standard_error() * scores.standard_error() + of_reference);
  drift.significant = drift.n >= options.min_questions && drift.shift > options.margin &&
                      drift.shift > options.standard_errors * drift.standard_error;
  return drift;
}

std::string DriftFinding(std::string_view expert, const Drift& drift, const RoutingReference& reference) {
  if (!drift.significant) return "";
  char text[320];
  std::snprintf(
      text, sizeof(text),
      "expert %.*s: the questions routed to it have left the field it was made for: their mean score "
      "is %.2f (%llu seen), that of its own texts %.2f (%llu measured), %.2f lower with a standard "
      "error of %.3f",
      static_cast<int>(expert.size()), expert.data(), drift.mean_score,
      static_cast<unsigned long long>(drift.n), reference.mean_score,
      static_cast<unsigned long long>(reference.n), drift.shift, drift.standard_error);
  return text;
}

}  // namespace coterie
