#include "gateway/upstream/worker_info.h"

namespace coterie::gateway {

const char* NameOf(WorkerHealth health) {
  switch (health) {
    case WorkerHealth::kConnecting:
      return "connecting";
    case WorkerHealth::kReady:
      return "ready";
    case WorkerHealth::kSuspect:
      return "suspect";
    case WorkerHealth::kLost:
      return "lost";
    case WorkerHealth::kDraining:
      return "draining";
    case WorkerHealth::kRefused:
      return "refused";
  }
  return "unknown";
}

}  // namespace coterie::gateway
