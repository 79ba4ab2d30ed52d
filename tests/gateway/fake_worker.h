#ifndef COTERIE_TESTS_GATEWAY_FAKE_WORKER_H_
#define COTERIE_TESTS_GATEWAY_FAKE_WORKER_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "coterie/v1/worker.grpc.pb.h"

namespace coterie::gateway::testing {

// The token at `position` of an answer: a letter drawn from (seed, position, first adapter), as every fake
// worker of the class draws it. A worker of another numerics class draws capitals.
int32_t FakeToken(uint64_t seed, uint32_t position, const std::string& adapter_digest_bytes,
                  const std::string& numerics_class = "fake");
std::string FakeText(uint64_t seed, uint32_t n_tokens, const std::string& adapter_digest_bytes = "");

// A worker that speaks the whole protocol of worker.proto and computes nothing. In this process, on a port of
// its own.
class FakeWorker {
 public:
  struct Options {
    std::string worker_id = "fake-0";
    std::string numerics_class = "fake";
    std::string device_name;
    Digest base = Sha256("base");
    Digest tokenizer = Sha256("tokenizer");
    absl::Duration step = absl::Milliseconds(2);  // one token of every sequence
    uint32_t max_waiting = 64;                    // sequences; more get RESOURCE_EXHAUSTED
    uint32_t seats = 0;                   // sequences in a step, those with credit, in their order; 0: all
    uint32_t max_sequence_tokens = 4096;  // prompt and answer; there an answer ends by its length
    uint32_t kv_blocks = 4096;
    uint32_t adapter_slots = 8;
    uint32_t max_mixture_members = 8;
    uint32_t max_gangs = 0;  // as a member it says what it would say alone
    bool takes_constraints = true;
    std::vector<v1::GateKind> gates = {v1::GATE_KIND_GATELESS, v1::GATE_KIND_NOISY, v1::GATE_KIND_ARROW};
    absl::Duration reattach_grace = absl::Seconds(5);
    std::vector<std::string> serves;
    uint32_t protocol_version = 1;
    int port = 0;  // 0: any
    bool draining = false;
    bool device_lost = false;
    std::optional<bool> batch_invariant;  // none: it does not say
    uint64_t bytes_between_workers = 0;
    bool malformed_states = false;                // names adapters by three bytes
    uint32_t eos_at = 0;                          // the answer ends at this position; 0: never
    std::vector<Digest> resident;                 // adapters it says it holds
    std::vector<uint32_t> end_token_ids = {256};  // it says it ends answers at; FakeTextModel's by default
    // Scores: the loss of every token, by the adapter's digest (the empty one: the base); without an entry
    // token i costs i.
    std::map<Digest, float> losses;
    uint32_t score_steps = 1;  // that a score takes
  };

  explicit FakeWorker(Options options);
  ~FakeWorker();  // as Kill

  int port() const { return port_; }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }

  // The process is gone: its port is closed, its state lost.
  void Kill();
  // As SIGSTOP and SIGCONT: says nothing and hears nothing, its connections stay up.
  void Freeze();
  void Thaw();
  // Every sequence gets this error instead of tokens.
  void FailAll(grpc::StatusCode code, const std::string& message);
  // What runs now ends as a gang's leader says that it lost a worker.
  void LoseMember(const std::string& worker);
  // Every sequence with this adapter gets this error; `marked`: as one that names the adapter.
  void BreakAdapter(const Digest& adapter, grpc::StatusCode code, bool marked = true);
  void MendAdapters();
  // As SIGTERM with no time left: says that it drains, and hands every sequence over.
  void HandOver();

  size_t live_sequences() const;
  uint64_t hellos() const { return n_hellos_; }
  uint64_t submits() const { return n_submits_; }
  uint64_t cancels() const { return n_cancels_; }
  uint64_t reattaches() const { return n_reattaches_; }
  uint64_t tokens_sent() const { return n_tokens_; }
  v1::Submit last_submit() const;
  // Those that asked for a score, in order.
  std::vector<v1::Submit> scores() const;
  // The adapters it was told to load ahead, in order.
  std::vector<Digest> prefetches() const;

 private:
  using Stream = grpc::ServerReaderWriter<v1::WorkerMessage, v1::GatewayMessage>;
  struct Sequence {
    v1::Submit submit;
    uint32_t next_position = 0;
    int64_t credit = 0;
    uint32_t n_steps = 0;
    bool finished = false;
    bool refused = false;
    std::string lost_worker;
  };
  struct Gateway {
    Stream* stream = nullptr;
    grpc::ServerContext* context = nullptr;
    bool attached_before = false;
    bool awaits_reattach = false;  // nothing of older sequences goes out before the gateway said what it has
    std::map<uint64_t, Sequence> sequences;
    std::deque<v1::WorkerMessage> outgoing;
    MonotonicTime left = MonotonicTime::InfiniteFuture();  // when its stream ended
    MonotonicTime next_beat = MonotonicTime::InfinitePast();
    absl::Duration beat = absl::Milliseconds(500);
  };
  class Service;

  grpc::Status Attach(grpc::ServerContext* context, Stream* stream);
  void Handle(Gateway* gateway, const v1::GatewayMessage& message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Run();
  void StepLocked(Gateway* gateway) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Produce(uint64_t id, Sequence* sequence, v1::Step* step) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::WorkerState State() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Options options_;
  const std::string incarnation_;
  int port_ = 0;
  std::unique_ptr<Service> service_;
  std::unique_ptr<grpc::Server> server_;
  std::atomic<uint64_t> n_hellos_ = 0, n_submits_ = 0, n_cancels_ = 0, n_reattaches_ = 0, n_tokens_ = 0;

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool frozen_ ABSL_GUARDED_BY(mutex_) = false;
  grpc::StatusCode fail_code_ ABSL_GUARDED_BY(mutex_) = grpc::StatusCode::OK;
  std::string fail_message_ ABSL_GUARDED_BY(mutex_);
  struct BrokenAdapter {
    grpc::StatusCode code;
    bool marked;
  };
  std::map<Digest, BrokenAdapter> broken_adapters_ ABSL_GUARDED_BY(mutex_);
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, Gateway> gateways_ ABSL_GUARDED_BY(mutex_);
  v1::Submit last_submit_ ABSL_GUARDED_BY(mutex_);
  std::vector<v1::Submit> scores_ ABSL_GUARDED_BY(mutex_);
  std::vector<Digest> prefetches_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_FAKE_WORKER_H_
