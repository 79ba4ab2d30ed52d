#ifndef COTERIE_WORKER_SERVICE_ATTACH_STREAM_H_
#define COTERIE_WORKER_SERVICE_ATTACH_STREAM_H_

#include <optional>
#include <string>

#include "common/clock.h"
#include "common/shared_secret.h"
#include "coterie/v1/worker.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "net/received.h"

namespace coterie::worker {

class AttachStream;

// Who runs the streams. Its mutex guards them too: the calls below come without it, from gRPC's threads.
class StreamOwner {
 public:
  virtual ~StreamOwner() = default;
  // False when the call has ended and nothing more is to be read.
  virtual bool OnMessage(AttachStream* stream, const v1::GatewayMessage& message) = 0;
  // The message handed to Write is on its way; the next one may be written.
  virtual void OnWritten(AttachStream* stream, bool ok) = 0;
  // Nothing more will be read: the gateway closed its side, the connection is gone, or `problem`, what came
  // is no message.
  virtual void OnClosed(AttachStream* stream, const Status& problem) = 0;
  // The last call; the stream is deleted after it.
  virtual void OnGone(AttachStream* stream) = 0;
};

// One Attach call: reads message by message, writes one message at a time. Knows nothing of what they mean.
// Deletes itself when gRPC has let go of it.
class AttachStream : public grpc::ServerBidiReactor<net::Received<v1::GatewayMessage>, v1::WorkerMessage> {
 public:
  AttachStream(StreamOwner* owner, grpc::CallbackServerContext* context, MonotonicTime opened)
      : owner_(owner), context_(context), opened_(opened) {}

  // Begins to read. Apart from the constructor: the owner must know the stream before the first message.
  void Start() { StartRead(&incoming_); }

  // --- Under the owner's mutex. ---
  bool can_write() const { return !writing_ && !ended_; }
  // To be filled before Write; valid while can_write().
  v1::WorkerMessage* outgoing() { return &outgoing_; }
  void Write();
  // Ends the call; further calls do nothing. `abandon` gives up a message still being written (its reader is
  // silent).
  void End(const grpc::Status& status, bool abandon = false);
  bool ended() const { return ended_; }
  void MarkWritten() { writing_ = false; }

  std::string gateway_id;  // empty until Hello
  // The hello that waits for its proof, with what the proof is bound to; empty where none is asked for.
  struct Unproven {
    v1::GatewayHello hello;
    HandshakeFacts facts;
    bool proven = false;  // and the challenge is still being written
  };
  std::optional<Unproven> unproven;
  MonotonicTime opened() const { return opened_; }
  std::string peer() const { return context_->peer(); }

 private:
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override { owner_->OnWritten(this, ok); }
  void OnCancel() override { owner_->OnClosed(this, absl::OkStatus()); }
  void OnDone() override;

  StreamOwner* const owner_;
  grpc::CallbackServerContext* const context_;
  const MonotonicTime opened_;
  net::Received<v1::GatewayMessage> incoming_;
  v1::WorkerMessage outgoing_;
  bool writing_ = false;
  bool ended_ = false;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_ATTACH_STREAM_H_
