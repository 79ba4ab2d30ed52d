#include "common/lost_worker.h"

#include "absl/strings/cord.h"

namespace coterie {
namespace {

constexpr char kLostWorkerType[] = "coterie/lost-worker";

}  // namespace

Status MarkLostWorker(Status status, const std::string& worker) {
  if (!worker.empty()) status.SetPayload(kLostWorkerType, absl::Cord(worker));
  return status;
}

std::string LostWorker(const Status& status) {
  const auto payload = status.GetPayload(kLostWorkerType);
  return payload ? std::string(*payload) : std::string();
}

}  // namespace coterie
