// Whether a gateway that attaches may: WorkerServiceImpl::CheckHello.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "worker/service/convert.h"
#include "worker/service/worker_service.h"

namespace coterie::worker {

grpc::Status WorkerServiceImpl::CheckHello(const v1::GatewayHello& hello) const {
  if (hello.gateway_id().empty() || hello.gateway_id().size() > 256) {
    return {
        grpc::StatusCode::INVALID_ARGUMENT,
        absl::StrCat("hello.gateway_id has ", hello.gateway_id().size(), " bytes; it must have 1 to 256")};
  }
  // It stands in the log.
  if (!std::all_of(hello.gateway_id().begin(), hello.gateway_id().end(), absl::ascii_isgraph)) {
    return {grpc::StatusCode::INVALID_ARGUMENT,
            "hello.gateway_id holds other characters than printable ones of ASCII"};
  }
  if (hello.protocol_version() != kProtocolVersion) {
    return {grpc::StatusCode::FAILED_PRECONDITION,
            absl::StrCat("the gateway speaks protocol ", hello.protocol_version(), ", this worker speaks ",
                         kProtocolVersion)};
  }
  struct Pair {
    const char* what;
    const std::string& theirs;
    Digest ours;
  };
  for (const Pair& pair : {Pair{"base", hello.base_digest(), engine_->model_info().base_digest},
                           Pair{"tokenizer", hello.tokenizer_digest(), options_.tokenizer_digest}}) {
    const StatusOr<Digest> theirs = Digest::FromBytes(pair.theirs);
    if (!theirs.ok()) {
      return ToGrpc(Annotate(theirs.status(), absl::StrCat("hello.", pair.what, "_digest").c_str()));
    }
    if (*theirs != pair.ours) {
      return {grpc::StatusCode::FAILED_PRECONDITION,
              absl::StrCat("the gateway works with ", pair.what, " ", theirs->Short(), ", this worker with ",
                           pair.what, " ", pair.ours.Short())};
    }
  }
  return grpc::Status::OK;
}

}  // namespace coterie::worker
