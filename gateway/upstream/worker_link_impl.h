#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_LINK_IMPL_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_LINK_IMPL_H_

#include <functional>
#include <memory>
#include <string>

#include "common/log_allowance.h"
#include "common/mutex.h"
#include "gateway/upstream/backoff.h"
#include "gateway/upstream/heartbeat_watch.h"
#include "gateway/upstream/link_sequences.h"
#include "gateway/upstream/worker_link.h"
#include "gateway/upstream/worker_state.h"
#include "gateway/upstream/worker_stream.h"

namespace coterie::gateway {

// WorkerLink over gRPC. For the three files that make it up; everybody else sees the interface.
// worker_link.cc: what others ask of the worker. link_messages.cc: what the worker says.
// link_connection.cc: connecting, heartbeats, loss.
class WorkerLinkImpl final : public WorkerLink,
                             public WorkerStream::Owner,
                             public std::enable_shared_from_this<WorkerLinkImpl> {
 public:
  WorkerLinkImpl(const WorkerLinkOptions& options, std::string address, TimerQueue* timers,
                 StreamThreads* streams, std::shared_ptr<WorkPool> placement_pool,
                 std::shared_ptr<WorkerBoard> board);

  void Connect();

  // --- worker_link.cc ---
  Status Submit(uint64_t sequence_id, const SequenceRequest& request,
                std::shared_ptr<SequenceObserver> observer) override;
  bool Prefetch(const Digest& adapter) override;
  void Cancel(uint64_t sequence_id) override;
  void Grant(uint64_t sequence_id, uint32_t tokens) override;
  WorkerReport Report() const override;
  bool Holds(const Digest& adapter) const override;
  size_t sequences() const override;
  const std::string& address() const override { return address_; }
  std::string numeric_address() const override;
  void Stop(const Status& why) override;

  // --- The stream (gRPC's threads) ---
  void OnMessage(WorkerStream* stream, v1::WorkerMessage& message) override;
  void OnClosed(WorkerStream* stream, const grpc::Status& status) override;

 private:
  struct Lost {
    Observed observers;
    WorkerLoss loss;
  };

  // Writes on the board what has changed but for the worker's own state.
  void Publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A full queue means that the connection carries nothing: ends it, and another one is started.
  void SendOrBreak(v1::GatewayMessage message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- link_messages.cc: by message ---
  // Notes that the worker is heard. False for a message of a stream that is no longer in use.
  bool Hear(WorkerStream* stream) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The worker asks us to prove that we know the shared secret, and proves that it does.
  void OnChallenge(WorkerStream* stream, const v1::Challenge& challenge);
  void OnHello(WorkerStream* stream, const v1::WorkerHello& hello);
  // Takes in the worker that says hello: as the one that was there before, whose sequences go on
  // (*reattached), or as a new process, which knows nothing of them (the result).
  Lost Attach(WorkerIdentity hello, const v1::WorkerHello& proto, Observed* reattached)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnStep(WorkerStream* stream, v1::Step& step);
  void OnHeartbeat(WorkerStream* stream, const v1::Heartbeat& heartbeat);
  void ApplyState(const v1::WorkerState& state) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- link_connection.cc: connecting and heartbeats ---
  void ScheduleTick() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends a heartbeat, and notices the worker's lost ones.
  void Tick();
  void SendHeartbeat() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Lost GiveUpSilent(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ScheduleReconnect(absl::Duration delay) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginGrace(const std::string& words) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnGraceOver();
  // Timers never keep the link alive.
  std::function<void()> Weakly(void (WorkerLinkImpl::*method)());

  // --- link_connection.cc: loss ---
  void NoteFailure(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteFailureOnce(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Lost TakeSequences(WorkerLoss loss) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The worker is kLost or kRefused from now on, for `why`; `planned` as in WorkerLoss.
  void MarkGone(WorkerHealth health, std::string why, bool planned) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the stream, too; its end will not be heard of.
  Lost LoseWorker(Status why, bool planned = false) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // One of the two does not fit the other. It is asked again now and then: it may be replaced by one that
  // does.
  Lost RefuseWorker(Status why, std::string message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropStream() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Tell observers on the placement pool, since placing hundreds of sequences anew takes long.
  void TellLater(Lost lost);
  void SuspectLater(Observed suspected);
  void Later(const std::function<void()>& job);

  const WorkerLinkOptions options_;
  const std::string address_;
  TimerQueue* const timers_;
  StreamThreads* const streams_;
  const std::shared_ptr<WorkPool> placement_pool_;

  mutable Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  bool attached_ ABSL_GUARDED_BY(mutex_) = false;  // Hello came on stream_
  std::string nonce_ ABSL_GUARDED_BY(mutex_);      // of stream_, where there is a secret
  bool proven_ ABSL_GUARDED_BY(mutex_) = false;    // the worker knows the secret, or there is none
  std::shared_ptr<WorkerStream> stream_ ABSL_GUARDED_BY(mutex_);
  WorkerHealth health_ ABSL_GUARDED_BY(mutex_) = WorkerHealth::kConnecting;
  std::string message_ ABSL_GUARDED_BY(mutex_) = "connecting";
  WorkerIdentity identity_ ABSL_GUARDED_BY(mutex_);
  WorkerStateFold state_ ABSL_GUARDED_BY(mutex_);
  LogAllowance malformed_states_ ABSL_GUARDED_BY(mutex_);
  HeartbeatWatch heartbeats_ ABSL_GUARDED_BY(mutex_);
  uint64_t n_heartbeats_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  OutlierWatch outliers_ ABSL_GUARDED_BY(mutex_);
  Backoff backoff_ ABSL_GUARDED_BY(mutex_);
  TimerQueue::Id tick_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id grace_ ABSL_GUARDED_BY(mutex_) = 0;
  TimerQueue::Id reconnect_ ABSL_GUARDED_BY(mutex_) = 0;
  LinkSequences sequences_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_LINK_IMPL_H_
