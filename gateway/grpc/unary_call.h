#ifndef COTERIE_GATEWAY_GRPC_UNARY_CALL_H_
#define COTERIE_GATEWAY_GRPC_UNARY_CALL_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <utility>

#include "common/mutex.h"
#include "common/status.h"
#include "gateway/grpc/rpc_status.h"

namespace coterie::gateway {

// A unary RPC that ends later, on whatever thread has the result. Made by the handler, which returns
// reactor(); the pieces that hold the shared_ptr may outlive the call, and then speak to nobody.
template <typename Response>
class UnaryCall : public std::enable_shared_from_this<UnaryCall<Response>> {
 public:
  static std::shared_ptr<UnaryCall> Create(Response* response) {
    std::shared_ptr<UnaryCall> call(new UnaryCall(response));
    call->reactor_ = new Reactor(call);
    return call;
  }

  grpc::ServerUnaryReactor* reactor() const { return reactor_; }

  // At most once counts; later calls are ignored.
  void Finish(StatusOr<Response> result) {
    MutexLock lock(&mutex_);
    if (std::exchange(finished_, true)) return;
    if (!result.ok()) return reactor_->Finish(ToGrpc(result.status()));
    *response_ = *std::move(result);
    reactor_->Finish(grpc::Status::OK);
  }

  // Called when the client goes; at once if it has gone already.
  void WhenCancelled(std::function<void()> callback) {
    {
      MutexLock lock(&mutex_);
      if (!cancelled_) {
        on_cancel_ = std::move(callback);
        return;
      }
    }
    callback();
  }

 private:
  class Reactor : public grpc::ServerUnaryReactor {
   public:
    explicit Reactor(std::shared_ptr<UnaryCall> call) : call_(std::move(call)) {}
    void OnCancel() override { call_->Cancelled(); }
    void OnDone() override {
      call_->Forget();
      delete this;
    }

   private:
    std::shared_ptr<UnaryCall> call_;
  };

  explicit UnaryCall(Response* response) : response_(response) {}

  void Cancelled() {
    std::function<void()> callback;
    {
      MutexLock lock(&mutex_);
      cancelled_ = true;
      callback = std::move(on_cancel_);
    }
    if (callback) callback();
    Finish(absl::CancelledError("the client cancelled"));
  }

  void Forget() {
    std::function<void()> dropped;  // it may own what owns us
    MutexLock lock(&mutex_);
    dropped = std::move(on_cancel_);
    on_cancel_ = nullptr;
  }

  Response* const response_;  // gRPC's, until Finish
  Reactor* reactor_ = nullptr;
  Mutex mutex_;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_cancel_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_UNARY_CALL_H_
