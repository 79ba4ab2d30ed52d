#include "gateway/upstream/hello_check.h"

#include "absl/strings/str_cat.h"
#include "common/worker_protocol.h"

namespace coterie::gateway {
namespace {

// What would stand in logs, errors and status, and is kept for as long as the worker is known.
Status CheckWords(const WorkerIdentity& hello) {
  struct Word {
    const char* field;
    const std::string& value;
  };
  for (const Word& word :
       {Word{"hello.worker_id", hello.worker_id}, Word{"hello.incarnation", hello.incarnation},
        Word{"hello.numerics_class", hello.numerics_class}, Word{"hello.device", hello.device},
        Word{"hello.device_name", hello.device_name}}) {
    if (const Status status = CheckWorkerWord(word.value); !status.ok()) return Annotate(status, word.field);
  }
  if (const Status status = CheckServes(hello.serves); !status.ok()) return Annotate(status, "hello.serves");
  if (hello.end_token_ids.size() > kMaxEndTokens) {
    return absl::InvalidArgumentError(absl::StrCat("hello.end_token_ids has ", hello.end_token_ids.size(),
                                                   " entries, the limit is ", kMaxEndTokens));
  }
  return absl::OkStatus();
}

}  // namespace

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
  if (const Status status = CheckWords(hello); !status.ok()) {
    return absl::FailedPreconditionError(absl::StrCat("worker ", address, ": ", status.message()));
  }
  return absl::OkStatus();
}

}  // namespace coterie::gateway
