#include "worker/rendezvous/rendezvous_client.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <optional>

#include "common/mutex.h"
#include "common/quoted.h"
#include "coterie/v1/rendezvous.grpc.pb.h"
#include "net/grpc_time.h"
#include "worker/rendezvous/rendezvous_wire.h"

namespace coterie::worker {
namespace {

// A look that does not wait: what the way there and back may take.
constexpr absl::Duration kLookTime = absl::Milliseconds(250);

}  // namespace

class RendezvousClient::Wire {
 public:
  // A call that this thread waits for in short turns, so that it can look at an abort flag. Shared with gRPC.
  template <typename Request, typename Response>
  struct WaitedCall {
    grpc::ClientContext context;
    Request request;
    Response response;
    Mutex mutex;
    CondVar ended;
    std::optional<grpc::Status> status ABSL_GUARDED_BY(mutex);
  };

  explicit Wire(RendezvousClientOptions options) : options_(std::move(options)) {
    grpc::ChannelArguments args;
    args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
    args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // A server that is not there yet is tried again soon.
    args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
    args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
    channel_ = grpc::CreateCustomChannel(
        options_.address, options_.credentials ? options_.credentials : grpc::InsecureChannelCredentials(),
        args);
    stub_ = v1::RendezvousService::NewStub(channel_);
  }

  // Fills in `wire` for messages about `key` of ours.
  void SetKey(const RendezvousKey& key, v1::RendezvousKey* wire) const {
    wire->set_version(kRendezvousVersion);
    wire->set_group(key.group);
    wire->set_token(options_.token);
    wire->set_epoch(key.epoch);
    wire->set_rank(static_cast<uint32_t>(key.rank));
    wire->set_topic(key.topic);
  }

  // `start` gives the call to gRPC, with what is to be called at its end.
  template <typename Request, typename Response, typename Start>
  Status Call(const std::shared_ptr<WaitedCall<Request, Response>>& call, MonotonicTime deadline,
              const AbortFlag& abort, const Start& start) {
    call->context.set_deadline(net::GrpcDeadline(deadline - MonotonicNow()));
    call->context.set_wait_for_ready(!answered_);
    start([call](const grpc::Status& status) {
      MutexLock lock(&call->mutex);
      call->status = status;
      call->ended.SignalAll();
    });
    MutexLock lock(&call->mutex);
    while (!call->status) {
      if (abort.raised()) call->context.TryCancel();  // its end comes at once then
      call->ended.WaitFor(&call->mutex, kAbortSlice);
    }
    if (abort.raised() && call->status->error_code() == grpc::StatusCode::CANCELLED) {
      return absl::CancelledError("aborted");
    }
    return Named(*call->status);
  }

  // The server's own words, or what is known of a server that said nothing.
  Status Named(const grpc::Status& status) {
    const auto code = static_cast<absl::StatusCode>(status.error_code());
    const bool ready = channel_->GetState(false) == GRPC_CHANNEL_READY;
    if (code == absl::StatusCode::kDeadlineExceeded && !ready) {
      return absl::UnavailableError(
          absl::StrCat(name(), answered_ ? " is lost" : " was not reached in time"));
    }
    // A server that ends cancels its calls.
    if (code == absl::StatusCode::kUnavailable || code == absl::StatusCode::kCancelled) {
      return absl::UnavailableError(absl::StrCat(name(), " is lost: ", Shown(status.error_message(), 200)));
    }
    if (ready && code != absl::StatusCode::kDeadlineExceeded) answered_ = true;
    if (status.ok()) return absl::OkStatus();
    return Status(code, absl::StrCat(name(), ": ", Shown(status.error_message(), 400)));
  }

  Status Silent() const { return absl::UnavailableError(absl::StrCat(name(), " does not answer")); }

  std::string name() const {
    return absl::StrCat("the rendezvous of ", options_.server, " at ", Shown(options_.address));
  }

  // Of what this client has published last, to ask for again.
  void Remember(const RendezvousKey& key) {
    MutexLock lock(&mutex_);
    published_ = key;
  }
  std::optional<RendezvousKey> Published() {
    MutexLock lock(&mutex_);
    return published_;
  }

  StatusOr<std::string> Await(const RendezvousKey& key, bool look_once, MonotonicTime deadline,
                              const AbortFlag& abort) {
    auto call = std::make_shared<WaitedCall<v1::AwaitRequest, v1::AwaitResponse>>();
    SetKey(key, call->request.mutable_key());
    call->request.set_look_once(look_once);
    RETURN_IF_ERROR(Call(call, deadline, abort, [&](std::function<void(grpc::Status)> end) {
      stub_->async()->Await(&call->context, &call->request, &call->response, std::move(end));
    }));
    return std::move(*call->response.mutable_text());
  }

  Status Publish(const RendezvousKey& key, const std::string& text, MonotonicTime deadline,
                 const AbortFlag& abort) {
    auto call = std::make_shared<WaitedCall<v1::PublishRequest, v1::PublishResponse>>();
    SetKey(key, call->request.mutable_key());
    call->request.set_text(text);
    return Call(call, deadline, abort, [&](std::function<void(grpc::Status)> end) {
      stub_->async()->Publish(&call->context, &call->request, &call->response, std::move(end));
    });
  }

 private:
  const RendezvousClientOptions options_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::RendezvousService::Stub> stub_;
  std::atomic<bool> answered_ = false;
  Mutex mutex_;
  std::optional<RendezvousKey> published_ ABSL_GUARDED_BY(mutex_);
};

RendezvousClient::RendezvousClient(RendezvousClientOptions options)
    : wire_(std::make_unique<Wire>(std::move(options))) {}

RendezvousClient::~RendezvousClient() = default;

Status RendezvousClient::Publish(const RendezvousKey& key, const std::string& text, MonotonicTime deadline,
                                 const AbortFlag& abort) {
  if (abort.raised()) return absl::CancelledError("aborted");
  const Status published = wire_->Publish(key, text, deadline, abort);
  if (absl::IsDeadlineExceeded(published)) return wire_->Silent();
  if (published.ok()) wire_->Remember(key);
  return published;
}

StatusOr<std::string> RendezvousClient::Await(const RendezvousKey& key, MonotonicTime deadline,
                                              const AbortFlag& abort) {
  if (abort.raised()) return absl::CancelledError("aborted");
  const MonotonicTime now = MonotonicNow();
  if (deadline <= now) {
    StatusOr<std::string> text = wire_->Await(key, /*look_once=*/true, now + kLookTime, abort);
    if (absl::IsDeadlineExceeded(text.status())) return wire_->Silent();
    if (absl::IsNotFound(text.status())) return absl::DeadlineExceededError(text.status().message());
    return text;
  }
  StatusOr<std::string> text = wire_->Await(key, /*look_once=*/false, deadline, abort);
  if (!absl::IsDeadlineExceeded(text.status())) return text;
  // Either nobody has published it, or the server stands still.
  const std::optional<RendezvousKey> mine = wire_->Published();
  if (!mine) return text;
  const Status asked = wire_->Await(*mine, /*look_once=*/true, MonotonicNow() + kAskAgain, abort).status();
  if (asked.ok()) return text;
  return absl::IsDeadlineExceeded(asked) ? wire_->Silent() : asked;
}

}  // namespace coterie::worker
