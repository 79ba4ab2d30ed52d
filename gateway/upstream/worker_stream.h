#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_STREAM_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_STREAM_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/mutex.h"
#include "coterie/v1/worker.grpc.pb.h"
#include "gateway/upstream/stream_threads.h"
#include "net/tls_identity.h"

namespace coterie::gateway {

// One attempt at WorkerService.Attach: a queue of outgoing messages and a loop of reads. It knows nothing of
// what the messages mean. Lives until gRPC has let go of it; Send and Stop are thread-safe.
class WorkerStream : public std::enable_shared_from_this<WorkerStream> {
 public:
  // Called from the streams' threads, one call at a time; OnClosed is the last.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void OnMessage(WorkerStream* stream, v1::WorkerMessage& message) = 0;
    virtual void OnClosed(WorkerStream* stream, const grpc::Status& status) = 0;
  };

  // Where the worker is, and how it is spoken to.
  struct Target {
    std::string address;
    std::shared_ptr<net::TlsIdentity> tls;  // null: no TLS
    std::string tls_name;                   // see WorkerLinkOptions
  };
  // Starts at once with `hello`. A new channel, thus a new connection, every time: the old one may be a black
  // hole that TCP still believes in.
  static std::shared_ptr<WorkerStream> Start(std::shared_ptr<Owner> owner, const Target& target,
                                             v1::GatewayMessage hello, size_t max_outgoing,
                                             StreamThreads* threads);

  // False when the queue is full or the stream has ended; the message is then dropped.
  bool Send(v1::GatewayMessage message);
  // Since when the oldest message that was sent waits to be written; InfiniteFuture where none does.
  MonotonicTime unwritten_since();
  // Ends the call; OnClosed follows soon. May be called again.
  void Stop() { context_.TryCancel(); }
  // As gRPC names it; once the worker has been heard.
  std::string peer() const { return context_.peer(); }

 private:
  // The first member: what follows uses the threads' queue.
  class Alive {
   public:
    explicit Alive(StreamThreads* threads) : threads_(threads) { threads_->Born(); }
    ~Alive() { threads_->Gone(); }
    Alive(const Alive&) = delete;
    Alive& operator=(const Alive&) = delete;

   private:
    StreamThreads* const threads_;
  };
  class Operation final : public StreamThreads::Operation {
   public:
    Operation(WorkerStream* stream, void (WorkerStream::*over)(bool)) : stream_(stream), over_(over) {}
    void Over(bool ok) override { (stream_->*over_)(ok); }

   private:
    WorkerStream* const stream_;
    void (WorkerStream::*const over_)(bool ok);
  };

  WorkerStream(std::shared_ptr<Owner> owner, size_t max_outgoing, StreamThreads* threads)
      : alive_(threads), owner_(std::move(owner)), max_outgoing_(max_outgoing) {}

  void StartWriteLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStarted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);
  // Nothing is sent any more; asks for the status.
  void End();
  // Once nothing that was begun is left: tells the owner, and lets go of itself.
  void Close();

  const Alive alive_;
  std::shared_ptr<Owner> owner_;
  const size_t max_outgoing_;
  grpc::ClientContext context_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<v1::GatewayMessage, v1::WorkerMessage>> call_;
  v1::WorkerMessage incoming_;
  grpc::Status status_;
  std::shared_ptr<WorkerStream> self_;  // until Close
  Operation start_{this, &WorkerStream::OnStarted};
  Operation read_{this, &WorkerStream::OnRead};
  Operation write_{this, &WorkerStream::OnWritten};
  Operation finish_{this, &WorkerStream::OnFinished};

  Mutex mutex_;
  std::deque<v1::GatewayMessage> outgoing_ ABSL_GUARDED_BY(mutex_);  // the first is being written, if any is
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime waiting_since_ ABSL_GUARDED_BY(mutex_);  // the first of outgoing_
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_STREAM_H_
