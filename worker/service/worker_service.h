#ifndef COTERIE_WORKER_SERVICE_WORKER_SERVICE_H_
#define COTERIE_WORKER_SERVICE_WORKER_SERVICE_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/log_allowance.h"
#include "common/mutex.h"
#include "common/shared_secret.h"
#include "common/trace/trace.h"
#include "coterie/v1/worker.grpc.pb.h"
#include "net/bad_calls.h"
#include "worker/engine/engine.h"
#include "worker/engine/peer_traffic.h"
#include "worker/gang/gangs.h"
#include "worker/service/attach_stream.h"
#include "worker/service/gateway_session.h"
#include "worker/service/speed_meter.h"
#include "worker/service/state_tracker.h"
#include "worker/service/worker_metrics.h"

namespace coterie::worker {

struct WorkerServiceOptions {
  std::string worker_id;  // for people; not empty
  Digest tokenizer_digest;
  std::string device = "cpu";
  std::vector<std::string> serves;  // name patterns; empty: every expert
  // How long the sequences of a gateway that went away are kept.
  absl::Duration reattach_grace = absl::Seconds(10);
  int max_gateways = 64;
  // What gateways prove that they know; null: whoever reaches the port is believed. Borrowed.
  SharedSecret* secret = nullptr;
  // A call that sends no Hello for so long is ended.
  absl::Duration hello_timeout = absl::Seconds(10);
  // Traces what gateways trace.
  Tracer tracer{nullptr, 0};
  // Told once, by the dispatcher's thread, that the engine lost its device. HandOver is then to be called,
  // from another thread.
  std::function<void(const Status&)> on_device_lost;
};

// WorkerService of worker.proto in front of an Engine: any number of gateways, each with its session. One
// thread takes the engine's outputs, appends them to the sequences' logs and sends; each gateway has at most
// one message in flight, which gathers whatever was said meanwhile, so a slow connection gets fewer, larger
// messages and piles up nothing beyond the credit its gateway gave. The engine's own thread never meets this
// one.
class WorkerServiceImpl : public v1::WorkerService::Service, private StreamOwner {
 public:
  // Borrows all of them; the last two may be null.
  WorkerServiceImpl(const WorkerServiceOptions& options, Engine* engine, const PeerTraffic* traffic,
                    WorkerMetrics* metrics, Gangs* gangs = nullptr);
  // Call after the server's Shutdown: waits until the last stream is gone.
  ~WorkerServiceImpl() override;

  // Takes nothing new from now on and tells the gateways. Returns when every sequence has ended and been
  // sent, or, after `timeout`, once the gateways were told to go on elsewhere (UNAVAILABLE). Returns the
  // number handed over.
  int Drain(absl::Duration timeout);
  // The device was lost: ends every sequence with UNAVAILABLE and `why`, takes nothing new, and tells the
  // gateways, which go on elsewhere. Asks nothing of the engine, whose thread may be held by the device.
  // Returns when the gateways were told, or after `timeout`: the number of sequences handed over.
  int HandOver(const Status& why, absl::Duration timeout);
  // Ends every stream; for the time between Drain or HandOver and the server's Shutdown.
  void EndStreams();

  const std::string& incarnation() const { return incarnation_; }

 private:
  using Sessions = absl::flat_hash_map<std::string, std::unique_ptr<GatewaySession>>;
  struct Owner {
    GatewaySession* session = nullptr;
    SequenceLog* log = nullptr;
  };

  AttachStream* Accept(grpc::CallbackServerContext* context);
  bool OnMessage(AttachStream* stream, const v1::GatewayMessage& message) override;
  void OnWritten(AttachStream* stream, bool ok) override;
  void OnClosed(AttachStream* stream, const Status& problem) override;
  void OnGone(AttachStream* stream) override;

  // --- service_hello.cc: a gateway attaches ---
  grpc::Status CheckHello(const v1::GatewayHello& hello) const;
  void RefuseHello(AttachStream* stream, const std::string& gateway_id, const grpc::Status& status)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first messages of a stream, up to its hello, or to the proof that follows it.
  void Welcome(AttachStream* stream, const v1::GatewayMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendChallenge(AttachStream* stream, const v1::GatewayHello& hello)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CheckAnswer(AttachStream* stream, const v1::ChallengeAnswer& answer)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // True with a place for one more gateway: that of one which never asked for anything, where all are taken.
  bool MakePlace() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnHello(AttachStream* stream, const v1::GatewayHello& hello) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void BeginStream(GatewaySession* session, AttachStream* stream, const v1::GatewayHello& hello,
                   MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SayHello(GatewaySession* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- service_messages.cc: gRPC's threads, by message ---
  void Obey(GatewaySession* session, const v1::GatewayMessage& message,
            StatusOr<std::unique_ptr<Sequence>> prepared) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  StatusOr<std::unique_ptr<Sequence>> PrepareSubmit(AttachStream* stream, const v1::Submit& submit)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void OnSubmit(GatewaySession* session, uint64_t sequence_id, StatusOr<std::unique_ptr<Sequence>> prepared)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnReattach(GatewaySession* session, const v1::Reattach& reattach)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(GatewaySession* session, uint64_t sequence_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropSuspended(GatewaySession* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A gateway that asks and reads nothing.
  void CutOff(GatewaySession* session, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Detach(GatewaySession* session, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // --- service_dispatcher.cc: the dispatcher's thread ---
  void Dispatch();
  // What the engine noted of a sequence that has left it: its trace, and a line where it failed.
  void NoteRetired(const Sequence& sequence);
  void AppendToLogs(OutputBatch& batch, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteDeviceLost(const Status& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteDeviceLost(OutputBatch* batch) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasUnsent() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends what waits for this gateway, a heartbeat where one is due, or nothing while a message is in flight.
  // From other threads as well.
  void Send(GatewaySession* session, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // How many sequences each gateway may have here, so that several do not count the same places. Now and
  // then.
  void DividePlaces(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FillState(GatewaySession* session, bool with_prefixes, v1::WorkerState* state)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PublishMetrics() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Heartbeats, silence, grace times. Returns when it must run again.
  MonotonicTime RunTimers(MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void EndIfSilent(GatewaySession* session, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sequences that nobody came back for, and ended ones that nobody can still want.
  void DropExpired(GatewaySession* session, MonotonicTime now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  MonotonicTime NextDue(const GatewaySession& session, MonotonicTime now) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetGateway(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const WorkerServiceOptions options_;
  Engine* const engine_;
  const PeerTraffic* const traffic_;
  WorkerMetrics* const metrics_;
  Gangs* const gangs_;
  net::BadCalls bad_calls_;
  const std::string incarnation_;

  Mutex mutex_;
  CondVar changed_;  // a stream is gone, or output was sent
  Sessions sessions_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, Owner> owners_ ABSL_GUARDED_BY(mutex_);  // by engine id
  absl::flat_hash_set<AttachStream*> streams_ ABSL_GUARDED_BY(mutex_);
  StateTracker tracker_ ABSL_GUARDED_BY(mutex_);
  SpeedMeter meter_ ABSL_GUARDED_BY(mutex_);
  LogAllowance refused_hellos_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_engine_id_ ABSL_GUARDED_BY(mutex_) = 1;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  Status device_lost_ ABSL_GUARDED_BY(mutex_);  // why, in words for gateways; ok: it is there
  int n_handed_over_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool timers_changed_ ABSL_GUARDED_BY(mutex_) = true;
  MonotonicTime places_due_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::InfinitePast();

  LogAllowance failed_sequences_{absl::Seconds(1)};  // the dispatcher's
  std::thread dispatcher_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_WORKER_SERVICE_H_
