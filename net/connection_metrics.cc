#include "net/connection_metrics.h"

namespace coterie::net {
namespace {

constexpr std::array<const char*, 7> kReasons = {"full",   "client", "descriptors", "wrong",
                                                 "silent", "idle",   "resets"};

}  // namespace

ConnectionMetrics::ConnectionMetrics(MetricsRegistry* registry, const std::string& listener,
                                     int max_connections)
    : unseen_(registry == nullptr ? std::make_unique<MetricsRegistry>() : nullptr) {
  if (registry == nullptr) registry = unseen_.get();
  const MetricLabels here = {{"listener", listener}};
  open_ = &registry->Gauge("coterie_connections_open", "Connections that hold a place.", here);
  silent_ = &registry->Gauge("coterie_connections_silent",
                             "Open connections that have not said anything yet.", here);
  registry->Gauge("coterie_connections_limit", "Places for connections.", here).Set(max_connections);
  accepted_ = &registry->Counter("coterie_connections_accepted_total", "Connections accepted.", here);
  for (size_t i = 0; i < kReasons.size(); ++i) {
    refused_[i] = &registry->Counter("coterie_connections_refused_total",
                                     "Connections turned away, or closed to make place, by reason.",
                                     {{"listener", listener}, {"reason", kReasons[i]}});
  }
  descriptors_used_ = &registry->Gauge("coterie_descriptors_open", "Files and sockets the process has open.");
  descriptors_limit_ = &registry->Gauge("coterie_descriptors_limit", "Files and sockets it may have open.");
}

void ConnectionMetrics::SetOpen(int open, int silent) {
  open_->Set(open);
  silent_->Set(silent);
}

void ConnectionMetrics::SetDescriptors(int64_t used, int64_t limit) {
  if (used >= 0) descriptors_used_->Set(static_cast<double>(used));
  descriptors_limit_->Set(static_cast<double>(limit));
}

}  // namespace coterie::net
