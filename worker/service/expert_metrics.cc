#include "worker/service/expert_metrics.h"

namespace coterie::worker {
namespace {

prometheus::Family<prometheus::Counter>& Counters(MetricsRegistry* registry, const char* name,
                                                  const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry->registry());
}

}  // namespace

ExpertMetrics::ExpertMetrics(MetricsRegistry* r)
    : finished_(Counters(r, "coterie_worker_expert_requests_total",
                         "Sequences ended, by expert; \"base\" without any.")),
      hits_(Counters(r, "coterie_worker_expert_adapter_hits_total",
                     "Sequences that found the expert's adapter in memory.")),
      misses_(Counters(r, "coterie_worker_expert_adapter_misses_total",
                       "Sequences that waited for the expert's adapter to load.")),
      waited_seconds_(Counters(r, "coterie_worker_expert_adapter_wait_seconds_total",
                               "From arrival to start, of sequences that waited for the expert's adapter.")) {
}

void ExpertMetrics::CountStart(const std::string& expert, bool waited, absl::Duration queued) {
  Series& series = Of(expert);
  (waited ? series.misses : series.hits)->Increment();
  if (waited) series.waited_seconds->Increment(absl::ToDoubleSeconds(queued));
}

void ExpertMetrics::CountFinish(const std::string& expert) { Of(expert).finished->Increment(); }

ExpertMetrics::Series& ExpertMetrics::Of(const std::string& expert) {
  const TopValues::Place place = top_.See(expert);
  const auto gone = place.evicted ? series_.find(*place.evicted) : series_.end();
  if (gone != series_.end()) {
    finished_.Remove(gone->second.finished);
    hits_.Remove(gone->second.hits);
    misses_.Remove(gone->second.misses);
    waited_seconds_.Remove(gone->second.waited_seconds);
    series_.erase(gone);
  }
  Series& series = series_[place.label];
  if (series.finished == nullptr) {
    const MetricLabels labels = {{"expert", place.label}};
    series = {&finished_.Add(labels), &hits_.Add(labels), &misses_.Add(labels), &waited_seconds_.Add(labels)};
  }
  return series;
}

}  // namespace coterie::worker
