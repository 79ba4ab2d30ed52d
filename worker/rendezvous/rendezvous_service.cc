#include "worker/rendezvous/rendezvous_service.h"

#include <grpcpp/grpcpp.h>

#include "common/mutex.h"
#include "net/grpc_time.h"
#include "net/received.h"
#include "worker/rendezvous/rendezvous_wire.h"

namespace coterie::worker {
namespace {

// What a deadline may be beyond the limit: it was worked out a while ago, on another machine.
constexpr absl::Duration kLateness = absl::Minutes(1);

// Messages of ours are UTF-8 whatever names stand in them (Quoted).
grpc::Status GrpcStatus(const Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), std::string(status.message())};
}

grpc::ServerUnaryReactor* FinishAtOnce(grpc::CallbackServerContext* context, const Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(GrpcStatus(status));
  return reactor;
}

// A call that waits for a text. Whoever takes it out of the store, an answer or its client's end, finishes
// it; gRPC lets go of it then.
class WaitingCall final : public grpc::ServerUnaryReactor, public RendezvousWaiter {
 public:
  WaitingCall(InProcessRendezvous* store, RendezvousKey key, v1::AwaitResponse* response)
      : store_(store), key_(std::move(key)), response_(response) {}

  // The call may be gone when this returns.
  void Begin(bool look_once) {
    InProcessRendezvous* const store = store_;
    const std::string group = key_.group;
    { MutexLock lock(&begun_); }
    store->Watch(key_, this);
    if (look_once && store->Unwatch(group, this)) {
      Finish(GrpcStatus(absl::NotFoundError("nothing was published yet")));
    }
  }
  void Answer(StatusOr<std::string> text) override {
    if (!text.ok()) return Finish(GrpcStatus(text.status()));
    *response_->mutable_text() = *std::move(text);
    Finish(grpc::Status::OK);
  }
  void OnCancel() override {
    { MutexLock lock(&begun_); }
    if (store_->Unwatch(key_.group, this)) Finish(grpc::Status::CANCELLED);
  }
  void OnDone() override { delete this; }

 private:
  InProcessRendezvous* const store_;
  const RendezvousKey key_;
  v1::AwaitResponse* const response_;
  Mutex begun_;  // orders what the constructor wrote before a cancel, on whatever thread gRPC tells of it
};

}  // namespace

RendezvousServiceImpl::RendezvousServiceImpl(RendezvousLimits limits, MetricsRegistry* registry)
    : store_(std::make_shared<InProcessRendezvous>(limits)), bad_calls_(registry) {
  const auto index = [](std::string_view method) {
    return net::MethodIndex(v1::RendezvousService::service_full_name(), method);
  };
  MarkMethodCallback(index("Publish"), net::UnaryHandler(this, &RendezvousServiceImpl::Publish, &bad_calls_));
  MarkMethodCallback(index("Await"), net::UnaryHandler(this, &RendezvousServiceImpl::Await, &bad_calls_));
}

StatusOr<RendezvousKey> RendezvousServiceImpl::Admit(const grpc::CallbackServerContext& context,
                                                     const v1::RendezvousKey& key) {
  if (key.version() != kRendezvousVersion) {
    return absl::FailedPreconditionError(absl::StrCat("this rendezvous speaks version ", kRendezvousVersion,
                                                      ", its client version ", key.version(),
                                                      "; run the same release on both"));
  }
  const MonotonicTime deadline = net::DeadlineOf(context);
  if (deadline == MonotonicTime::InfiniteFuture() ||
      deadline - MonotonicNow() > kMaxCommTimeout + kLateness) {
    return absl::InvalidArgumentError(absl::StrCat("a call wants a deadline, at most ",
                                                   absl::FormatDuration(kMaxCommTimeout), " from now"));
  }
  RETURN_IF_ERROR(store_->Admit(key.group(), key.token()));
  if (key.rank() >= uint32_t{kMaxMembers}) {
    return absl::InvalidArgumentError(
        absl::StrCat("rank is ", key.rank(), "; members have ranks 0 to ", kMaxMembers - 1));
  }
  return RendezvousKey{key.group(), key.epoch(), static_cast<int>(key.rank()), key.topic()};
}

grpc::ServerUnaryReactor* RendezvousServiceImpl::Publish(grpc::CallbackServerContext* context,
                                                         const v1::PublishRequest* request,
                                                         v1::PublishResponse*) {
  const StatusOr<RendezvousKey> key = Admit(*context, request->key());
  if (!key.ok()) return FinishAtOnce(context, key.status());
  return FinishAtOnce(context, store_->Publish(*key, request->text(), MonotonicNow(), AbortFlag()));
}

grpc::ServerUnaryReactor* RendezvousServiceImpl::Await(grpc::CallbackServerContext* context,
                                                       const v1::AwaitRequest* request,
                                                       v1::AwaitResponse* response) {
  StatusOr<RendezvousKey> key = Admit(*context, request->key());
  if (!key.ok()) return FinishAtOnce(context, key.status());
  auto* call = new WaitingCall(store_.get(), *std::move(key), response);
  call->Begin(request->look_once());
  return call;
}

}  // namespace coterie::worker
