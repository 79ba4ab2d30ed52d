#include "gateway/core/expert_metrics.h"

namespace coterie::gateway {
namespace {

prometheus::Family<prometheus::Counter>& Counters(MetricsRegistry* registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry->registry());
}

prometheus::Family<prometheus::Histogram>& Histograms(MetricsRegistry* registry, const char* name,
                                                      const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry->registry());
}

const std::vector<double>& ScoreBuckets() {
  static const auto* const buckets = new std::vector<double>{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
  return *buckets;
}

// 8 ms to 16 s.
const std::vector<double>& FirstTokenBuckets() {
  static const auto* const buckets = new std::vector<double>(DoublingBuckets(0.008, 12));
  return *buckets;
}

}  // namespace

ExpertMetrics::ExpertMetrics(MetricsRegistry* r)
    : answers_(Counters(r, "coterie_expert_requests_total", "Answers by expert (\"base\" for none).")),
      canary_answers_(
          Counters(r, "coterie_canary_requests_total", "Of these, answers that the expert's canary gave.")),
      fallbacks_(
          Counters(r, "coterie_expert_fallbacks_total",
                   "Questions that another expert or the base answered, since no worker could load this "
                   "one's adapter.")),
      abstentions_(
          Counters(r, "coterie_expert_abstentions_total",
                   "Questions that the base answered since this expert, the nearest, was not near enough.")),
      tokens_(Counters(r, "coterie_expert_tokens_total",
                       "Tokens of answers by expert, counted when an answer ends.")),
      score_(Histograms(r, "coterie_expert_score_ratio",
                        "Scores of the questions that this expert was nearest to.")),
      first_token_(Histograms(r, "coterie_expert_time_to_first_token_seconds",
                              "From the request's acceptance to its first token, by expert.")) {}

void ExpertMetrics::CountRoute(const std::string& expert, double score, bool abstained) {
  MutexLock lock(&mutex_);
  Series& series = Of(expert);
  series.score->Observe(score);
  if (abstained) series.abstentions->Increment();
}

void ExpertMetrics::CountAnswer(const std::string& expert, bool canary) {
  MutexLock lock(&mutex_);
  Series& series = Of(expert);
  series.answers->Increment();
  if (canary) series.canary_answers->Increment();
}

void ExpertMetrics::CountFallback(const std::string& expert) {
  MutexLock lock(&mutex_);
  Of(expert).fallbacks->Increment();
}

void ExpertMetrics::ObserveFirstToken(const std::string& expert, absl::Duration since_accepted) {
  MutexLock lock(&mutex_);
  Of(expert).first_token->Observe(absl::ToDoubleSeconds(since_accepted));
}

void ExpertMetrics::CountTokens(const std::string& expert, size_t n_tokens) {
  MutexLock lock(&mutex_);
  Of(expert).tokens->Increment(static_cast<double>(n_tokens));
}

std::vector<std::string> ExpertMetrics::Named() const {
  MutexLock lock(&mutex_);
  return top_.Named();
}

ExpertMetrics::Series& ExpertMetrics::Of(const std::string& expert) {
  const TopValues::Place place = top_.See(expert);
  if (place.evicted) Remove(*place.evicted);
  if (series_.find(place.label) == series_.end()) Add(place.label);
  return series_[place.label];
}

void ExpertMetrics::Add(const std::string& label) {
  const MetricLabels labels = {{"expert", label}};
  series_[label] = {&answers_.Add(labels),
                    &canary_answers_.Add(labels),
                    &fallbacks_.Add(labels),
                    &abstentions_.Add(labels),
                    &tokens_.Add(labels),
                    &score_.Add(labels, ScoreBuckets()),
                    &first_token_.Add(labels, FirstTokenBuckets())};
}

void ExpertMetrics::Remove(const std::string& label) {
  const auto it = series_.find(label);
  if (it == series_.end()) return;
  const Series& s = it->second;
  answers_.Remove(s.answers);
  canary_answers_.Remove(s.canary_answers);
  fallbacks_.Remove(s.fallbacks);
  abstentions_.Remove(s.abstentions);
  tokens_.Remove(s.tokens);
  score_.Remove(s.score);
  first_token_.Remove(s.first_token);
  series_.erase(it);
}

}  // namespace coterie::gateway
