#include "worker/service/attach_stream.h"

#include "common/check.h"

namespace coterie::worker {

void AttachStream::Write() {
  COTERIE_CHECK(can_write()) << "two messages written at once";
  writing_ = true;
  StartWrite(&outgoing_);
}

void AttachStream::End(const grpc::Status& status, bool abandon) {
  if (ended_) return;
  ended_ = true;
  if (abandon && writing_) context_->TryCancel();
  Finish(status);
}

void AttachStream::OnReadDone(bool ok) {
  if (!ok) return owner_->OnClosed(this, absl::OkStatus());
  if (!incoming_.problem.ok()) return owner_->OnClosed(this, incoming_.problem);
  if (owner_->OnMessage(this, incoming_.message)) StartRead(&incoming_);
}

void AttachStream::OnDone() {
  owner_->OnGone(this);
  delete this;
}

}  // namespace coterie::worker
