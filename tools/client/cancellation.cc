#include "tools/client/cancellation.h"

namespace coterie::client {

void Cancellation::Cancel() {
  MutexLock lock(&mutex_);
  cancelled_ = true;
  for (grpc::ClientContext* context : calls_) context->TryCancel();
}

bool Cancellation::cancelled() const {
  MutexLock lock(&mutex_);
  return cancelled_;
}

CancellableCall::CancellableCall(Cancellation* cancellation, grpc::ClientContext* context)
    : cancellation_(cancellation), context_(context) {
  if (cancellation_ == nullptr) return;
  MutexLock lock(&cancellation_->mutex_);
  if (cancellation_->cancelled_) context_->TryCancel();
  cancellation_->calls_.insert(context_);
}

CancellableCall::~CancellableCall() {
  if (cancellation_ == nullptr) return;
  MutexLock lock(&cancellation_->mutex_);
  cancellation_->calls_.erase(context_);
}

}  // namespace coterie::client
