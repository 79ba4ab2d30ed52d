#ifndef COTERIE_WORKER_SERVICE_EXPERT_METRICS_H_
#define COTERIE_WORKER_SERVICE_EXPERT_METRICS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics.h"

namespace coterie::worker {

// What a worker shows of each expert: series of their own for those it is asked for most, "other" for the
// rest together. One thread.
class ExpertMetrics {
 public:
  static constexpr size_t kMaxExperts = 100;

  explicit ExpertMetrics(MetricsRegistry* registry);

  // A sequence of this expert began, after `queued`; `waited`: for its adapter to be loaded, among others.
  void CountStart(const std::string& expert, bool waited, absl::Duration queued);
  void CountFinish(const std::string& expert);  // "base" without any

 private:
  struct Series {
    prometheus::Counter* finished = nullptr;
    prometheus::Counter* hits = nullptr;
    prometheus::Counter* misses = nullptr;
    prometheus::Counter* waited_seconds = nullptr;
  };
  Series& Of(const std::string& expert);

  prometheus::Family<prometheus::Counter>& finished_;
  prometheus::Family<prometheus::Counter>& hits_;
  prometheus::Family<prometheus::Counter>& misses_;
  prometheus::Family<prometheus::Counter>& waited_seconds_;
  TopValues top_{kMaxExperts};
  std::map<std::string, Series> series_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_EXPERT_METRICS_H_
