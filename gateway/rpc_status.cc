#include "gateway/rpc_status.h"

#include <string>

#include "absl/strings/cord.h"
#include "common/utf8.h"
#include "coterie/v1/rpc_status.pb.h"

namespace coterie::gateway {
namespace {

constexpr char kRetryInfoUrl[] = "type.googleapis.com/google.rpc.RetryInfo";

}  // namespace

Status WithRetryDelay(Status status, absl::Duration delay) {
  rpc::RetryInfo info;
  const int64_t seconds = absl::ToInt64Seconds(delay);
  info.mutable_retry_delay()->set_seconds(seconds);
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(delay - absl::Seconds(seconds))));
  status.SetPayload(kRetryInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

std::optional<absl::Duration> RetryDelay(const Status& status) {
  const auto payload = status.GetPayload(kRetryInfoUrl);
  rpc::RetryInfo info;
  if (!payload || !info.ParseFromString(std::string(*payload))) return std::nullopt;
  return absl::Seconds(info.retry_delay().seconds()) + absl::Nanoseconds(info.retry_delay().nanos());
}

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  // Bytes of a file or a peer may stand in it; clients decode it as UTF-8, and as protobuf text it must be.
  const std::string message = Printable(ToStd(status.message()));
  const auto payload = status.GetPayload(kRetryInfoUrl);
  if (!payload) return grpc::Status(code, message);
  rpc::Status details;
  details.set_code(static_cast<int32_t>(code));
  details.set_message(message);
  google::protobuf::Any* any = details.add_details();
  any->set_type_url(kRetryInfoUrl);
  any->set_value(std::string(*payload));
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace coterie::gateway
