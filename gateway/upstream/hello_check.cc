#include "gateway/upstream/hello_check.h"

#include "absl/strings/str_cat.h"
#include "common/worker_protocol.h"

namespace coterie::gateway {

Status CheckHello(const WorkerIdentity& hello, const WorkerLinkOptions& options, const std::string& address) {
  if (hello.protocol_version != kWorkerProtocolVersion) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", address, " speaks protocol ",
                                                      hello.protocol_version, ", this gateway speaks ",
                                                      kWorkerProtocolVersion));
  }
  if (hello.base != options.base) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", address, " serves base ", hello.base.Short(),
                                                      ", this gateway serves base ", options.base.Short()));
  }
  if (hello.tokenizer != options.tokenizer) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", address, " has tokenizer ",
                                                      hello.tokenizer.Short(), ", this gateway has ",
                                                      options.tokenizer.Short()));
  }
  if (hello.incarnation.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", address, " names no incarnation"));
  }
  return absl::OkStatus();
}

}  // namespace coterie::gateway
