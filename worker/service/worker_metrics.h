#ifndef COTERIE_WORKER_SERVICE_WORKER_METRICS_H_
#define COTERIE_WORKER_SERVICE_WORKER_METRICS_H_

#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "model/grammar/grammar_matchers.h"
#include "worker/engine/engine.h"
#include "worker/engine/peer_traffic.h"
#include "worker/service/expert_metrics.h"

namespace coterie::worker {

// The worker's numbers for /metrics. The engine counts in its own atomics, so that its loop takes no lock of
// prometheus-cpp; Publish carries them over. Publish and the Observe functions: one thread.
class WorkerMetrics {
 public:
  // Borrows all three.
  WorkerMetrics(MetricsRegistry* registry, const Engine* engine, const PeerTraffic* traffic);

  void ObserveFirstToken(absl::Duration since_submit) {
    first_token_->Observe(absl::ToDoubleSeconds(since_submit));
  }
  MetricsRegistry* registry() const { return registry_; }
  // The first token of a sequence, which began after `queued`.
  void ObserveStart(const std::vector<std::string>& experts, bool waited_for_adapter, absl::Duration queued) {
    for (const std::string& expert : experts) experts_.CountStart(expert, waited_for_adapter, queued);
  }
  void ObserveFinish(FinishReason reason, const std::vector<std::string>& experts);
  // The figures of what compiles constraints (borrowed; null where the model has no text: zeros). Once.
  void ShowConstraints(const GrammarMatchersStats* stats);
  // Called by each Publish, for figures of others.
  void AlsoPublish(std::function<void()> publish);
  // Brings everything up to date. `gateways`: attached now; `running`, `waiting`: names of adapters by what
  // their sequences do.
  void Publish(size_t gateways, const std::set<std::string>& running, const std::set<std::string>& waiting);

 private:
  struct Level {
    prometheus::Gauge* gauge;
    std::function<double()> read;
  };
  struct Total {
    prometheus::Counter* counter;
    std::function<uint64_t()> read;
    uint64_t published = 0;
  };
  struct Distribution {
    prometheus::Histogram* histogram;
    const Histogram* source;
    std::vector<double> published;
    double sum = 0;
  };
  void AddLevel(const std::string& name, const std::string& help, std::function<double()> read);
  void AddTotal(const std::string& name, const std::string& help, std::function<uint64_t()> read,
                const MetricLabels& labels = {});
  void AddDistribution(const std::string& name, const std::string& help, const Histogram& source);

  MetricsRegistry* const registry_;
  const Engine* const engine_;
  std::vector<std::function<void()>> others_;
  std::vector<Level> levels_;
  std::vector<Total> totals_;
  std::vector<Distribution> distributions_;
  prometheus::Gauge* gateways_;
  prometheus::Histogram* first_token_;
  ExpertMetrics experts_;
  prometheus::Family<prometheus::Gauge>* lora_info_family_;
  prometheus::Gauge* lora_info_ = nullptr;
  std::string lora_info_labels_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_WORKER_METRICS_H_
