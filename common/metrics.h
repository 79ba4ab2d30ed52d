#ifndef COTERIE_COMMON_METRICS_H_
#define COTERIE_COMMON_METRICS_H_

#include <map>
#include <memory>
#include <optional>
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

// The numbers one process shows; each stands in common/metrics.toml, from which docs and dashboards are made.
// Names begin with "coterie_" and end in their unit (_seconds, _bytes, _total); asking again for the same
// name and labels gives the same metric. Thread-safe; metrics live as long as the registry.
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

// Which values of a label that users choose (experts, tenants) have series of their own: those that were seen
// most, so that nobody can fill the memory of whoever scrapes. All others share the value "other". A newcomer
// takes the place of the one seen least once it was seen more than twice as often of late. Not thread-safe.
class TopValues {
 public:
  static constexpr std::string_view kOther = "other";

  explicit TopValues(size_t max_values) : max_values_(max_values) {}

  struct Place {
    std::string label;  // the value, or kOther
    std::optional<std::string>
        evicted;  // lost its place to it: its series end, and begin at 0 should it return
  };
  Place See(const std::string& value);
  // Those with a place, in order of their names.
  std::vector<std::string> Named() const;
  size_t n_seen() const { return seen_.size(); }

 private:
  struct Seen {
    double times = 0;  // halved again and again, so that old fame fades
    bool named = false;
  };
  void Fade();

  const size_t max_values_;
  size_t n_named_ = 0;
  size_t n_since_fading_ = 0;
  std::map<std::string, Seen> seen_;  // at most eight times max_values, and one
};

// One counter per value of such a label. Thread-safe.
class BoundedCounters {
 public:
  BoundedCounters(MetricsRegistry* registry, const std::string& name, const std::string& help,
                  std::string label, size_t max_values);
  void Increment(const std::string& value, double amount = 1);

 private:
  prometheus::Family<prometheus::Counter>& family_;
  const std::string label_;
  Mutex mutex_;
  TopValues top_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, prometheus::Counter*> counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie

#endif  // COTERIE_COMMON_METRICS_H_
