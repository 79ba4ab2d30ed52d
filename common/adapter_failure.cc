#include "common/adapter_failure.h"

#include <string>
#include <utility>

#include "absl/strings/cord.h"

namespace coterie {
namespace {

constexpr char kType[] = "coterie/failed-adapter";

}  // namespace

Status MarkAdapterFailure(Status status, const Digest& adapter) {
  status.SetPayload(kType, absl::Cord(adapter.ToBytes()));
  return status;
}

std::optional<Digest> FailedAdapter(const Status& status) {
  const auto payload = status.GetPayload(kType);
  if (!payload) return std::nullopt;
  const StatusOr<Digest> digest = Digest::FromBytes(std::string(*payload));
  if (!digest.ok()) return std::nullopt;
  return *digest;
}

}  // namespace coterie
