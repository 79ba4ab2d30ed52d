#ifndef COTERIE_TESTS_WORKER_SERVICE_TEST_GATEWAY_H_
#define COTERIE_TESTS_WORKER_SERVICE_TEST_GATEWAY_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/digest.h"
#include "common/mutex.h"
#include "coterie/v1/worker.grpc.pb.h"
#include "worker/engine/engine.h"
#include "worker/engine/fake_model.h"
#include "worker/engine/peer_traffic.h"
#include "worker/worker_server.h"

namespace coterie::worker {

// A fake model whose steps take this long.
inline FakeModelOptions Slow(absl::Duration step) {
  FakeModelOptions model;
  model.step_time = step;
  return model;
}

// A worker over the fake model, on a free port of this machine.
class TestWorker {
 public:
  explicit TestWorker(EngineOptions engine = {}, FakeModelOptions model = {},
                      WorkerServiceOptions service = {}, MetricsRegistry* registry = nullptr);
  ~TestWorker();

  std::string address() const { return "127.0.0.1:" + std::to_string(server->port()); }
  // Makes a fake adapter that the worker can find.
  Digest MakeAdapter(const std::string& name);

  std::string folder;
  PeerTraffic traffic;
  std::unique_ptr<FakeModel> model;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<WorkerMetrics> metrics;
  std::unique_ptr<WorkerServiceImpl> service;
  std::unique_ptr<WorkerServer> server;
};

// What a gateway has of one sequence.
struct Received {
  std::vector<uint32_t> tokens;
  uint32_t begin = 0;  // position of the first token here
  int n_outputs = 0;
  bool finished = false;
  v1::SequenceOutput last;
  std::vector<v1::PositionLogprobs> logprobs;
  std::vector<v1::PositionLogprobs> prompt_logprobs;
};

// The other end of worker.proto, played by a test.
class TestGateway {
 public:
  struct Options {
    std::string id = "gateway-1";
    uint32_t protocol = 1;
    Digest base = Sha256("fake");
    Digest tokenizer = Sha256("fake tokenizer");
    uint32_t heartbeat_ms = 100;
    uint32_t silence_ms = 3000;
    bool beats = true;  // sends heartbeats
  };
  TestGateway(std::string address, Options options);
  explicit TestGateway(std::string address) : TestGateway(std::move(address), Options()) {}
  ~TestGateway();

  // Opens a stream and waits for the worker's Hello, or for the end: then false, with `status`.
  bool Connect() { return ConnectWith(nullptr); }
  // The same with another first message.
  bool ConnectWith(const v1::GatewayMessage* first);
  // Breaks the connection from here, as a lost network would.
  void Cut();
  void Send(const v1::GatewayMessage& message);
  void Submit(uint64_t id, std::vector<uint32_t> prompt, uint32_t max_tokens, uint32_t credit = 100000,
              const std::function<void(v1::Submit*)>& change = nullptr);
  // A gateway that reads nothing any more lets messages pile up on the way.
  void SetReading(bool reading);
  void SetBeats(bool beats) { beats_ = beats; }
  void Grant(uint64_t id, uint32_t tokens);
  void Cancel(uint64_t id);
  // Takes up what it has not seen the end of.
  void Reattach(uint32_t credit = 100000);

  // False after ten seconds.
  bool WaitUntil(const std::function<bool()>& done);
  bool WaitFinished(uint64_t id);
  bool WaitTokens(uint64_t id, size_t n);  // at least so many
  bool WaitClosed();
  Received Of(uint64_t id);
  v1::WorkerHello Hello();
  v1::WorkerState State();
  std::set<std::string> Residents();
  std::set<uint64_t> Prefixes();
  int heartbeats();
  int steps();
  grpc::Status status();

 private:
  void ReadLoop();
  void BeatLoop();

  const std::string address_;
  const Options options_;
  std::atomic<bool> beats_{options_.beats};
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::unique_ptr<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::GatewayMessage, v1::WorkerMessage>> stream_;
  std::thread reader_, beater_;

  Mutex write_mutex_;
  Mutex mutex_;
  CondVar changed_;
  bool open_ = false;
  bool has_hello_ = false;
  v1::WorkerHello hello_;
  v1::WorkerState state_;
  std::set<std::string> residents_;
  std::set<uint64_t> prefixes_;
  bool reading_ = true;
  std::map<uint64_t, Received> received_;
  int heartbeats_ = 0;
  int steps_ = 0;
  grpc::Status status_;
};

std::vector<uint32_t> Prompt(int n, int seed);

}  // namespace coterie::worker

#endif  // COTERIE_TESTS_WORKER_SERVICE_TEST_GATEWAY_H_
