#ifndef COTERIE_GATEWAY_CORE_EXPERT_METRICS_H_
#define COTERIE_GATEWAY_CORE_EXPERT_METRICS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "common/mutex.h"

namespace coterie::gateway {

// What the gateway shows of each expert ("base" for none): all of these series for the experts that are asked
// most, and one more set, "other", for the rest together. Thread-safe.
class ExpertMetrics {
 public:
  // An expert has about thirty series, most of them buckets.
  static constexpr size_t kMaxExperts = 50;

  explicit ExpertMetrics(MetricsRegistry* registry);

  // A question found it nearest, or its answer begins.
  void CountRoute(const std::string& expert, double score, bool abstained);
  void CountAnswer(const std::string& expert, bool canary);
  // No worker could load it.
  void CountFallback(const std::string& expert);
  void ObserveFirstToken(const std::string& expert, absl::Duration since_accepted);
  void CountTokens(const std::string& expert, size_t n_tokens);

  // Those that have series of their own.
  std::vector<std::string> Named() const;

 private:
  struct Series {
    prometheus::Counter* answers = nullptr;
    prometheus::Counter* canary_answers = nullptr;
    prometheus::Counter* fallbacks = nullptr;
    prometheus::Counter* abstentions = nullptr;
    prometheus::Counter* tokens = nullptr;
    prometheus::Histogram* score = nullptr;
    prometheus::Histogram* first_token = nullptr;
  };
  Series& Of(const std::string& expert) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Add(const std::string& label) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(const std::string& label) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  prometheus::Family<prometheus::Counter>& answers_;
  prometheus::Family<prometheus::Counter>& canary_answers_;
  prometheus::Family<prometheus::Counter>& fallbacks_;
  prometheus::Family<prometheus::Counter>& abstentions_;
  prometheus::Family<prometheus::Counter>& tokens_;
  prometheus::Family<prometheus::Histogram>& score_;
  prometheus::Family<prometheus::Histogram>& first_token_;
  mutable Mutex mutex_;
  TopValues top_ ABSL_GUARDED_BY(mutex_){kMaxExperts};
  std::map<std::string, Series> series_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_EXPERT_METRICS_H_
