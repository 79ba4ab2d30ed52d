#ifndef COTERIE_COMMON_METRICS_H_
#define COTERIE_COMMON_METRICS_H_

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/mutex.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/histogram.h"
#include "prometheus/registry.h"

namespace coterie {

using MetricLabels = std::map<std::string, std::string>;

// The numbers one process shows. Names begin with "coterie_" and end in their unit (_seconds, _bytes,
// _total); asking again for the same name and labels gives the same metric. Thread-safe; metrics live as long
// as the registry.
class MetricsRegistry {
 public:
  MetricsRegistry() : registry_(std::make_shared<prometheus::Registry>()) {}
  MetricsRegistry(const MetricsRegistry&) = delete;
  MetricsRegistry& operator=(const MetricsRegistry&) = delete;

  prometheus::Counter& Counter(const std::string& name, const std::string& help,
                               const MetricLabels& labels = {});
  prometheus::Gauge& Gauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  prometheus::Histogram& Histogram(const std::string& name, const std::string& help,
                                   const std::vector<double>& buckets, const MetricLabels& labels = {});

  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }
  // The page in Prometheus' text format.
  std::string Text() const;

 private:
  std::shared_ptr<prometheus::Registry> registry_;
};

// Upper bounds of buckets, doubling: first, 2 first, 4 first, ...
std::vector<double> DoublingBuckets(double first, int n);

// One counter per value of a label whose values users choose (experts, tenants): the first `max_values` have
// their own, all others share the value "other", so that nobody can fill the memory of whoever scrapes.
// Thread-safe.
class BoundedCounters {
 public:
  BoundedCounters(MetricsRegistry* registry, std::string name, std::string help, std::string label,
                  size_t max_values = 1000);
  prometheus::Counter& Get(std::string_view value);

 private:
  MetricsRegistry* const registry_;
  const std::string name_;
  const std::string help_;
  const std::string label_;
  const size_t max_values_;
  Mutex mutex_;
  std::map<std::string, prometheus::Counter*, std::less<>> counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie

#endif  // COTERIE_COMMON_METRICS_H_
