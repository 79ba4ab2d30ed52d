#include "common/metrics.h"

#include <algorithm>
#include <iterator>
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

TopValues::Place TopValues::See(const std::string& value) {
  Seen& seen = seen_[value];
  ++seen.times;
  Place place;
  if (!seen.named && n_named_ < max_values_) {
    seen.named = true;
    ++n_named_;
  } else if (!seen.named) {
    const auto least = std::min_element(seen_.begin(), seen_.end(), [](const auto& a, const auto& b) {
      return std::pair(!a.second.named, a.second.times) < std::pair(!b.second.named, b.second.times);
    });
    // By a margin: two that are seen alike must not take turns.
    if (seen.times > 2 * least->second.times + 8) {
      least->second.named = false;
      place.evicted = least->first;
      seen.named = true;
    }
  }
  place.label = seen.named ? value : std::string(kOther);
  if (++n_since_fading_ >= 64 * max_values_) Fade();
  while (seen_.size() > 8 * max_values_) Fade();
  return place;
}

void TopValues::Fade() {
  n_since_fading_ = 0;
  for (auto it = seen_.begin(); it != seen_.end();) {
    it->second.times /= 2;
    it = !it->second.named && it->second.times < 1 ? seen_.erase(it) : std::next(it);
  }
}

std::vector<std::string> TopValues::Named() const {
  std::vector<std::string> named;
  for (const auto& [value, seen] : seen_) {
    if (seen.named) named.push_back(value);
  }
  return named;
}

BoundedCounters::BoundedCounters(MetricsRegistry* registry, const std::string& name, const std::string& help,
                                 std::string label, size_t max_values)
    : family_(prometheus::BuildCounter().Name(name).Help(help).Register(*registry->registry())),
      label_(std::move(label)),
      top_(max_values) {}

void BoundedCounters::Increment(const std::string& value, double amount) {
  MutexLock lock(&mutex_);
  const TopValues::Place place = top_.See(value);
  if (place.evicted) {
    family_.Remove(counters_.at(*place.evicted));
    counters_.erase(*place.evicted);
  }
  prometheus::Counter*& counter = counters_[place.label];
  if (counter == nullptr) counter = &family_.Add({{label_, place.label}});
  counter->Increment(amount);
}

}  // namespace coterie
