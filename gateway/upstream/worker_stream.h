#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_STREAM_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_STREAM_H_

#include <cstdint>
#include <deque>
#include <memory>

#include "common/clock.h"
#include "common/mutex.h"
#include "coterie/v1/worker.grpc.pb.h"
#include "gateway/upstream/stream_reaper.h"

namespace coterie::gateway {

// One attempt at WorkerService.Attach: a queue of outgoing messages and a loop of reads. It knows nothing of
// what the messages mean. Lives until gRPC has let go of it; Send and Stop are thread-safe.
class WorkerStream : public grpc::ClientBidiReactor<v1::GatewayMessage, v1::WorkerMessage> {
 public:
  // Called from gRPC's threads, one call at a time; OnClosed is the last.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnMessage(WorkerStream* stream, v1::WorkerMessage& message) = 0;
    virtual void OnClosed(WorkerStream* stream, const grpc::Status& status) = 0;
  };

  // Starts at once with `hello`. A new channel, thus a new connection, every time: the old one may be a black
  // hole that TCP still believes in.
  static std::shared_ptr<WorkerStream> Start(std::shared_ptr<Owner> owner, const std::string& address,
                                             const v1::GatewayMessage& hello, size_t max_outgoing,
                                             StreamReaper* reaper);

  // False when the queue is full or the stream has ended; the message is then dropped.
  bool Send(v1::GatewayMessage message);
  // Since when the oldest message that was sent waits to be written; InfiniteFuture where none does.
  MonotonicTime unwritten_since();
  // Ends the call; OnClosed follows soon. May be called again.
  void Stop() { context_.TryCancel(); }

 private:
  WorkerStream(std::shared_ptr<Owner> owner, size_t max_outgoing, StreamReaper* reaper)
      : owner_(std::move(owner)), max_outgoing_(max_outgoing), reaper_(reaper) {}

  void StartWriteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

  std::shared_ptr<Owner> owner_;
  const size_t max_outgoing_;
  StreamReaper* const reaper_;
  grpc::ClientContext context_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  v1::WorkerMessage incoming_;
  std::shared_ptr<WorkerStream> self_;  // until OnDone

  Mutex mutex_;
  std::deque<v1::GatewayMessage> outgoing_ ABSL_GUARDED_BY(mutex_);  // the first is being written
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime write_began_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_STREAM_H_
