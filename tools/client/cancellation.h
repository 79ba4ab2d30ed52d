#ifndef COTERIE_TOOLS_CLIENT_CANCELLATION_H_
#define COTERIE_TOOLS_CLIENT_CANCELLATION_H_

#include <grpcpp/client_context.h>

#include "absl/container/flat_hash_set.h"
#include "common/mutex.h"

namespace coterie::client {

// Ends calls from another thread (Ctrl-C). Thread-safe; must outlive the calls it was given to.
class Cancellation {
 public:
  // Every call under way ends with Cancelled, and so does every later one.
  void Cancel();
  bool cancelled() const;

 private:
  friend class CancellableCall;
  mutable Mutex mutex_;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<grpc::ClientContext*> calls_ ABSL_GUARDED_BY(mutex_);
};

// One call's registration, for as long as the call runs. `cancellation` may be null.
class CancellableCall {
 public:
  CancellableCall(Cancellation* cancellation, grpc::ClientContext* context);
  ~CancellableCall();
  CancellableCall(const CancellableCall&) = delete;
  CancellableCall& operator=(const CancellableCall&) = delete;

 private:
  Cancellation* cancellation_;
  grpc::ClientContext* context_;
};

}  // namespace coterie::client

#endif  // COTERIE_TOOLS_CLIENT_CANCELLATION_H_
