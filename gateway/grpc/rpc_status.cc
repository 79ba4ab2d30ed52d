#include "gateway/grpc/rpc_status.h"

#include <string>

#include "common/utf8.h"
#include "coterie/v1/rpc_status.pb.h"
#include "gateway/access/retry_delay.h"

namespace coterie::gateway {

grpc::Status ToGrpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());
  // Bytes of a file or a peer may stand in it; clients decode it as UTF-8, and as protobuf text it must be.
  const std::string message = Printable(ToStd(status.message()));
  const std::optional<absl::Duration> delay = RetryDelay(status);
  if (!delay) return grpc::Status(code, message);
  rpc::RetryInfo info;
  const int64_t seconds = absl::ToInt64Seconds(*delay);
  info.mutable_retry_delay()->set_seconds(seconds);
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(*delay - absl::Seconds(seconds))));
  rpc::Status details;
  details.set_code(static_cast<int32_t>(code));
  details.set_message(message);
  google::protobuf::Any* any = details.add_details();
  any->set_type_url("type.googleapis.com/google.rpc.RetryInfo");
  any->set_value(info.SerializeAsString());
  return grpc::Status(code, message, details.SerializeAsString());
}

}  // namespace coterie::gateway
