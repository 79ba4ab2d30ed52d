#include "common/metrics.h"

#include <utility>

#include "prometheus/text_serializer.h"

namespace coterie {

prometheus::Counter& MetricsRegistry::Counter(const std::string& name, const std::string& help,
                                              const MetricLabels& labels) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_).Add(labels);
}

prometheus::Gauge& MetricsRegistry::Gauge(const std::string& name, const std::string& help,
                                          const MetricLabels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_).Add(labels);
}

prometheus::Histogram& MetricsRegistry::Histogram(const std::string& name, const std::string& help,
                                                  const std::vector<double>& buckets,
                                                  const MetricLabels& labels) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_).Add(labels, buckets);
}

std::string MetricsRegistry::Text() const {
  return prometheus::TextSerializer().Serialize(registry_->Collect());
}

std::vector<double> DoublingBuckets(double first, int n) {
  std::vector<double> buckets;
  for (int i = 0; i < n; ++i, first *= 2) buckets.push_back(first);
  return buckets;
}

BoundedCounters::BoundedCounters(MetricsRegistry* registry, std::string name, std::string help,
                                 std::string label, size_t max_values)
    : registry_(registry),
      name_(std::move(name)),
      help_(std::move(help)),
      label_(std::move(label)),
      max_values_(max_values) {}

prometheus::Counter& BoundedCounters::Get(std::string_view value) {
  MutexLock lock(&mutex_);
  auto it = counters_.find(value);
  if (it != counters_.end()) return *it->second;
  const std::string key(counters_.size() < max_values_ ? value : std::string_view("other"));
  prometheus::Counter& counter = registry_->Counter(name_, help_, {{label_, key}});
  if (key == value) counters_.emplace(key, &counter);
  return counter;
}

}  // namespace coterie
