#ifndef COTERIE_NET_CONNECTION_METRICS_H_
#define COTERIE_NET_CONNECTION_METRICS_H_

#include <array>
#include <memory>
#include <string>

#include "common/metrics.h"

namespace coterie::net {

// Why a connection was turned away or closed by us; a label of its counter.
enum class Refused {
  kFull,         // every place taken, and nobody idle
  kClient,       // its client holds as many as one may
  kDescriptors,  // the process has no descriptor left
  kWrong,        // it spoke something else
  kSilent,       // closed: it said nothing for too long, or others wanted its place meanwhile
  kIdle,         // closed: nothing was under way on it, and others wanted its place
  kResets,       // cut off: it broke off more calls than one connection may
};

// A listener's connections in /metrics. Thread-safe.
class ConnectionMetrics {
 public:
  // `listener` is a label: front, admin, worker, metrics. Without a registry nobody sees the numbers.
  ConnectionMetrics(MetricsRegistry* registry, const std::string& listener, int max_connections);

  void SetOpen(int open, int silent);
  void CountAccepted() { accepted_->Increment(); }
  void Count(Refused reason) { refused_[static_cast<size_t>(reason)]->Increment(); }
  // Of the process; every listener says the same.
  void SetDescriptors(int64_t used, int64_t limit);

 private:
  const std::unique_ptr<MetricsRegistry> unseen_;
  prometheus::Gauge* open_;
  prometheus::Gauge* silent_;
  prometheus::Counter* accepted_;
  std::array<prometheus::Counter*, 7> refused_;
  prometheus::Gauge* descriptors_used_;
  prometheus::Gauge* descriptors_limit_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_CONNECTION_METRICS_H_
