#include "gateway/upstream/link_errors.h"

#include <grpcpp/support/status.h>

#include "absl/strings/match.h"

namespace coterie::gateway {

// gRPC hands on the system's words and no number; in other words than these nothing is lost but the grace
// time.
bool PortIsClosed(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         absl::StrContains(status.error_message(), "Connection refused");
}

bool IsRefusal(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::FAILED_PRECONDITION ||
         status.error_code() == grpc::StatusCode::UNAUTHENTICATED ||
         status.error_code() == grpc::StatusCode::PERMISSION_DENIED ||
         status.error_code() == grpc::StatusCode::UNIMPLEMENTED ||
         status.error_code() == grpc::StatusCode::INVALID_ARGUMENT;
}

bool IsWorkersFault(const Status& error) {
  return error.code() == absl::StatusCode::kUnavailable || error.code() == absl::StatusCode::kAborted;
}

}  // namespace coterie::gateway
