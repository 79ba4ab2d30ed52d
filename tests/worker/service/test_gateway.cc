#include "tests/worker/service/test_gateway.h"

#include <cstdlib>
#include <filesystem>

#include "common/clock.h"
#include "common/file.h"
#include "gtest/gtest.h"

namespace coterie::worker {

TestWorker::TestWorker(EngineOptions engine_options, FakeModelOptions model_options,
                       WorkerServiceOptions service_options, MetricsRegistry* registry) {
  std::string pattern = (std::filesystem::temp_directory_path() / "coterie_worker_XXXXXX").string();
  folder = mkdtemp(pattern.data());
  model = std::make_unique<FakeModel>(model_options);
  auto resolver = [this](const Digest& digest) -> StatusOr<std::filesystem::path> {
    std::filesystem::path path = std::filesystem::path(folder) / digest.ToHex();
    if (!std::filesystem::exists(path)) return absl::NotFoundError("no such object");
    return path;
  };
  auto made = Engine::Create(engine_options, model.get(), resolver);
  EXPECT_TRUE(made.ok()) << made.status();
  engine = std::move(made).value();
  if (registry != nullptr) metrics = std::make_unique<WorkerMetrics>(registry, engine.get(), &traffic);
  if (service_options.worker_id.empty()) service_options.worker_id = "worker-1";
  if (service_options.tokenizer_digest.empty()) service_options.tokenizer_digest = Sha256("fake tokenizer");
  service = std::make_unique<WorkerServiceImpl>(service_options, engine.get(), &traffic, metrics.get());
  auto started =
      WorkerServer::Start("127.0.0.1:0", service.get(), engine->max_sequence_tokens(), {}, registry);
  EXPECT_TRUE(started.ok()) << started.status();
  server = std::move(started).value();
}

TestWorker::~TestWorker() {
  server.reset();
  service.reset();
  engine.reset();
  std::filesystem::remove_all(folder);
}

Digest TestWorker::MakeAdapter(const std::string& name) {
  const Digest digest = Sha256(name);
  const std::filesystem::path path = std::filesystem::path(folder) / digest.ToHex();
  std::filesystem::create_directory(path);
  EXPECT_TRUE(WriteFileAtomically(path / "adapter_config.json", "{}").ok());
  return digest;
}

TestGateway::TestGateway(std::string address, Options options)
    : address_(std::move(address)), options_(std::move(options)) {}

TestGateway::~TestGateway() { Cut(); }

bool TestGateway::ConnectWith(const v1::GatewayMessage* first) {
  Cut();
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  stub_ = v1::WorkerService::NewStub(
      grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), args));
  context_ = std::make_unique<grpc::ClientContext>();
  stream_ = stub_->Attach(context_.get());
  {
    MutexLock lock(&mutex_);
    open_ = true;
    has_hello_ = false;
    residents_.clear();
    prefixes_.clear();
    reading_ = true;
  }
  v1::GatewayMessage message;
  v1::GatewayHello* hello = message.mutable_hello();
  hello->set_protocol_version(options_.protocol);
  hello->set_gateway_id(options_.id);
  hello->set_base_digest(options_.base.ToBytes());
  hello->set_tokenizer_digest(options_.tokenizer.ToBytes());
  hello->set_heartbeat_interval_ms(options_.heartbeat_ms);
  hello->set_silence_timeout_ms(options_.silence_ms);
  Send(first != nullptr ? *first : message);
  reader_ = std::thread([this] { ReadLoop(); });
  beater_ = std::thread([this] { BeatLoop(); });
  WaitUntil([this] { return has_hello_ || !open_; });
  MutexLock lock(&mutex_);
  return has_hello_;
}

void TestGateway::Cut() {
  if (context_ == nullptr) return;
  context_->TryCancel();
  SetReading(true);
  if (reader_.joinable()) reader_.join();
  if (beater_.joinable()) beater_.join();
  stream_.reset();
  context_.reset();
  stub_.reset();
}

void TestGateway::ReadLoop() {
  v1::WorkerMessage message;
  while (stream_->Read(&message)) {
    MutexLock lock(&mutex_);
    auto take_state = [this](const v1::WorkerState& state) {
      state_ = state;
      for (const std::string& raw : state.resident_added()) EXPECT_TRUE(residents_.insert(raw).second);
      for (const std::string& raw : state.resident_removed()) EXPECT_EQ(residents_.erase(raw), 1u);
      if (state.prefixes_reset()) prefixes_.clear();
      EXPECT_LE(state.prefixes_added_size() + state.prefixes_removed_size(), 4096);
      for (uint64_t key : state.prefixes_added()) EXPECT_TRUE(prefixes_.insert(key).second);
      for (uint64_t key : state.prefixes_removed()) EXPECT_EQ(prefixes_.erase(key), 1u);
    };
    if (message.has_hello()) {
      EXPECT_FALSE(has_hello_);
      has_hello_ = true;
      hello_ = message.hello();
      take_state(hello_.state());
    } else if (message.has_heartbeat()) {
      ++heartbeats_;
      take_state(message.heartbeat().state());
    } else {
      ++steps_;
      take_state(message.step().state());
      for (const v1::SequenceOutput& output : message.step().outputs()) {
        Received& got = received_[output.sequence_id()];
        EXPECT_FALSE(got.finished) << "output after the end of " << output.sequence_id();
        if (got.n_outputs++ == 0) got.begin = output.position();
        if (output.finish() != v1::FINISH_REASON_ERROR) {
          EXPECT_EQ(output.position(), got.begin + got.tokens.size()) << "sequence " << output.sequence_id();
        }
        got.tokens.insert(got.tokens.end(), output.token_ids().begin(), output.token_ids().end());
        got.logprobs.insert(got.logprobs.end(), output.logprobs().begin(), output.logprobs().end());
        got.prompt_logprobs.insert(got.prompt_logprobs.end(), output.prompt_logprobs().begin(),
                                   output.prompt_logprobs().end());
        got.finished = output.finish() != v1::FINISH_REASON_UNSPECIFIED;
        got.last = output;
      }
    }
    changed_.SignalAll();
    while (!reading_) changed_.Wait(&mutex_);
  }
  const grpc::Status status = stream_->Finish();
  MutexLock lock(&mutex_);
  open_ = false;
  status_ = status;
  changed_.SignalAll();
}

void TestGateway::BeatLoop() {
  uint64_t counter = 0;
  while (true) {
    {
      MutexLock lock(&mutex_);
      changed_.WaitFor(&mutex_, absl::Milliseconds(options_.heartbeat_ms));
      if (!open_) return;
      if (!beats_) continue;
    }
    v1::GatewayMessage message;
    message.mutable_heartbeat()->set_counter(++counter);
    Send(message);
  }
}

void TestGateway::Send(const v1::GatewayMessage& message) {
  MutexLock lock(&write_mutex_);
  stream_->Write(message);
}

void TestGateway::Submit(uint64_t id, std::vector<uint32_t> prompt, uint32_t max_tokens, uint32_t credit,
                         const std::function<void(v1::Submit*)>& change) {
  v1::GatewayMessage message;
  v1::Submit* submit = message.mutable_submit();
  submit->set_sequence_id(id);
  submit->mutable_prompt_ids()->Assign(prompt.begin(), prompt.end());
  submit->mutable_sampling()->set_max_tokens(max_tokens);
  submit->mutable_sampling()->set_seed(7);
  submit->set_initial_credit(credit);
  if (change) change(submit);
  Send(message);
}

void TestGateway::Grant(uint64_t id, uint32_t tokens) {
  v1::GatewayMessage message;
  message.mutable_credit()->set_sequence_id(id);
  message.mutable_credit()->set_tokens(tokens);
  Send(message);
}

void TestGateway::Cancel(uint64_t id) {
  v1::GatewayMessage message;
  message.mutable_cancel()->set_sequence_id(id);
  Send(message);
}

void TestGateway::Reattach(uint32_t credit) {
  v1::GatewayMessage message;
  message.mutable_reattach();
  {
    MutexLock lock(&mutex_);
    for (const auto& [id, got] : received_) {
      if (got.finished) continue;
      v1::Reattach::Position* position = message.mutable_reattach()->add_sequences();
      position->set_sequence_id(id);
      position->set_next_position(got.begin + static_cast<uint32_t>(got.tokens.size()));
      position->set_credit(credit);
    }
  }
  Send(message);
}

bool TestGateway::WaitUntil(const std::function<bool()>& done) {
  const MonotonicTime limit = MonotonicNow() + absl::Seconds(10);
  MutexLock lock(&mutex_);
  while (!done()) {
    if (!changed_.WaitUntil(&mutex_, std::min(limit, MonotonicNow() + absl::Milliseconds(50))) &&
        MonotonicNow() > limit) {
      return false;
    }
  }
  return true;
}

bool TestGateway::WaitFinished(uint64_t id) {
  return WaitUntil([&] { return received_[id].finished; });
}

bool TestGateway::WaitTokens(uint64_t id, size_t n) {
  return WaitUntil([&] { return received_[id].tokens.size() >= n; });
}

bool TestGateway::WaitClosed() {
  return WaitUntil([&] { return !open_; });
}

Received TestGateway::Of(uint64_t id) {
  MutexLock lock(&mutex_);
  return received_[id];
}

v1::WorkerHello TestGateway::Hello() {
  MutexLock lock(&mutex_);
  return hello_;
}

std::set<uint64_t> TestGateway::Prefixes() {
  MutexLock lock(&mutex_);
  return prefixes_;
}

void TestGateway::SetReading(bool reading) {
  MutexLock lock(&mutex_);
  reading_ = reading;
  changed_.SignalAll();
}

v1::WorkerState TestGateway::State() {
  MutexLock lock(&mutex_);
  return state_;
}

std::set<std::string> TestGateway::Residents() {
  MutexLock lock(&mutex_);
  return residents_;
}

int TestGateway::heartbeats() {
  MutexLock lock(&mutex_);
  return heartbeats_;
}

int TestGateway::steps() {
  MutexLock lock(&mutex_);
  return steps_;
}

grpc::Status TestGateway::status() {
  MutexLock lock(&mutex_);
  return status_;
}

std::vector<uint32_t> Prompt(int n, int seed) {
  std::vector<uint32_t> ids(n);
  for (int i = 0; i < n; ++i)
    ids[i] = static_cast<uint32_t>((i * 31 + seed * 977 + (i % 13) * (i % 13) % 13) % 1000);
  return ids;
}

}  // namespace coterie::worker
