// What a worker tells of itself: state, residency, prefixes, heartbeats, health, metrics; its bounds; and its
// end.
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/prefix_key.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "net/grpc_time.h"
#include "tests/worker/service/test_gateway.h"

namespace coterie::worker {
namespace {

using ::testing::HasSubstr;

template <typename Done>
void WaitFor(const Done& done) {
  for (int i = 0; i < 2000 && !done(); ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_TRUE(done());
}

// Unary call of grpc.health.v1.Health/Check by hand: 1 SERVING, 2 NOT_SERVING; -1 when the call failed.
int HealthOf(const std::string& address, const std::string& service) {
  grpc::GenericStub stub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  const std::string request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  const grpc::Slice slice(request);
  grpc::ByteBuffer in(&slice, 1), out;
  grpc::ClientContext context;
  context.set_deadline(net::GrpcDeadline(absl::Seconds(5)));
  Mutex mutex;
  CondVar done;
  bool ended = false;
  grpc::Status status;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &in, &out, [&](grpc::Status s) {
    MutexLock lock(&mutex);
    status = std::move(s);
    ended = true;
    done.Signal();
  });
  {
    MutexLock lock(&mutex);
    while (!ended) done.Wait(&mutex);
  }
  std::vector<grpc::Slice> slices;
  if (!status.ok() || !out.Dump(&slices).ok() || slices.empty() || slices[0].size() < 2) return -1;
  return slices[0].begin()[1];
}

TEST(StateTest, HeartbeatsComeWhileNothingElseIsSaid) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  WaitFor([&] { return gateway.heartbeats() >= 5; });
}

TEST(StateTest, ResidencyIsToldAsChangesAndWholeToANewStream) {
  EngineOptions options;
  options.adapters.n_slots = 2;
  TestWorker worker(options);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  std::set<std::string> expected;
  for (const char* name : {"a", "b", "c"}) {
    const Digest digest = worker.MakeAdapter(name);
    const uint64_t id = static_cast<uint64_t>(name[0]);
    gateway.Submit(id, Prompt(10, 1), 3, 10, [&](v1::Submit* s) {
      s->add_adapters()->set_digest(digest.ToBytes());
      s->mutable_adapters(0)->set_weight(1);
    });
    ASSERT_TRUE(gateway.WaitFinished(id));
    if (name[0] != 'a') expected.insert(digest.ToBytes());  // the third pushes the first out
  }
  WaitFor([&] { return gateway.Residents() == expected; });
  EXPECT_EQ(gateway.State().adapters_resident(), 2u);
  ASSERT_TRUE(gateway.Connect());
  EXPECT_EQ(gateway.Residents(), expected);
}

TEST(StateTest, GatewaysAreToldWhatTheOthersLeaveAndAnEvenPartAtLeast) {
  EngineOptions options;
  options.max_seqs = 4;
  options.max_waiting = 12;
  TestWorker worker(options, Slow(absl::Milliseconds(20)));
  TestGateway first(worker.address(), {.id = "first"}), second(worker.address(), {.id = "second"});
  ASSERT_TRUE(first.Connect());
  EXPECT_EQ(first.Hello().state().places(), 16u);  // alone
  for (uint64_t id = 1; id <= 12; ++id) first.Submit(id, Prompt(5, 1), 100'000, 1);
  ASSERT_TRUE(first.WaitTokens(1, 1));
  ASSERT_TRUE(second.Connect());
  WaitFor([&] { return second.State().places() == 8; });  // 4 are left, and half is its own
  EXPECT_EQ(first.State().places(), 16u);
  for (uint64_t id = 1; id <= 3; ++id) second.Submit(id, Prompt(5, 1), 100'000, 1);
  WaitFor([&] { return first.State().places() == 13; });
  for (uint64_t id = 1; id <= 12; ++id) first.Cancel(id);
  WaitFor([&] { return second.State().places() == 16; });
}

TEST(StateTest, APrefetchedAdapterBecomesResident) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  v1::GatewayMessage message;
  message.mutable_prefetch()->set_digest(worker.MakeAdapter("a").ToBytes());
  gateway.Send(message);
  WaitFor([&] { return gateway.Residents().contains(Sha256("a").ToBytes()); });
}

TEST(StateTest, WarmPrefixesAreToldByTheKeysTheGatewayComputes) {
  FakeModelOptions model;
  model.n_kv_blocks = 16;
  TestWorker worker({}, model);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  auto keys_of = [](const std::vector<uint32_t>& prompt) {
    PrefixHasher hasher;
    std::set<uint64_t> keys;
    const std::vector<int32_t> ids(prompt.begin(), prompt.end());
    for (const PrefixHash& key : hasher.Chain(hasher.Root(Sha256("fake"), {}, "salt"), ids)) {
      keys.insert(key.wire_key());
    }
    return keys;
  };
  auto salt = [](v1::Submit* s) { s->set_cache_salt("salt"); };
  gateway.Submit(1, Prompt(64, 1), 1, 10, salt);
  ASSERT_TRUE(gateway.WaitFinished(1));
  WaitFor([&] { return gateway.Prefixes() == keys_of(Prompt(64, 1)); });
  gateway.Submit(2, Prompt(240, 2), 1, 10, salt);  // pushes the first prompt's blocks out
  ASSERT_TRUE(gateway.WaitFinished(2));
  const std::set<uint64_t> second = keys_of(Prompt(240, 2));
  WaitFor([&] {
    const std::set<uint64_t> told = gateway.Prefixes();
    return std::includes(told.begin(), told.end(), second.begin(), second.end()) && told.size() <= 16;
  });
}

TEST(StateTest, ALargeCacheIsToldWholeInPieces) {
  FakeModelOptions model;
  model.n_kv_blocks = 12'000;
  model.context_length = 80'000;
  EngineOptions engine;
  engine.max_batch_tokens = 4096;
  TestWorker worker(engine, model);
  TestGateway::Options early;
  early.id = "early";
  TestGateway first(worker.address(), early), late(worker.address());
  ASSERT_TRUE(first.Connect());
  for (uint64_t id : {1, 2}) {
    first.Submit(id, Prompt(78'000, static_cast<int>(id)), 1);
    ASSERT_TRUE(first.WaitFinished(id));
  }
  WaitFor([&] { return first.Prefixes().size() == 2 * 78'000 / 16; });
  ASSERT_TRUE(late.Connect());
  WaitFor([&] { return late.Prefixes() == first.Prefixes(); });
}

TEST(StateTest, AWorkerTellsWhatItMeasures) {
  FakeModelOptions model = Slow(absl::Milliseconds(5));
  model.load_time = absl::Milliseconds(5);
  TestWorker worker({}, model);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  EXPECT_EQ(gateway.State().prefill_tokens_per_second(), 0);
  EXPECT_EQ(gateway.State().adapter_load_bytes_per_second(), 0);
  EXPECT_EQ(gateway.State().answer_tokens(), 0);
  const Digest digest = worker.MakeAdapter("a");
  for (uint64_t id = 1; id <= 10; ++id) {
    gateway.Submit(id, Prompt(200, static_cast<int>(id)), 6, 100, [&](v1::Submit* s) {
      s->add_adapters()->set_digest(digest.ToBytes());
      s->mutable_adapters(0)->set_weight(1);
    });
    ASSERT_TRUE(gateway.WaitFinished(id));
  }
  // A score is no answer.
  gateway.Submit(11, Prompt(200, 1), 1, 0, [](v1::Submit* s) {
    s->set_prompt_logprobs_from(1);
    s->set_score_only(true);
  });
  ASSERT_TRUE(gateway.WaitFinished(11));
  WaitFor(
      [&] { return gateway.State().answer_tokens() > 0 && gateway.State().prefill_tokens_per_second() > 0; });
  EXPECT_DOUBLE_EQ(gateway.State().answer_tokens(), 6);
  // 200 tokens take a step, which takes 5 ms or more.
  EXPECT_LE(gateway.State().prefill_tokens_per_second(), 256 / 0.005);
  // 1 MiB takes 5 ms or more.
  EXPECT_GT(gateway.State().adapter_load_bytes_per_second(), 0);
  EXPECT_LE(gateway.State().adapter_load_bytes_per_second(), (1 << 20) / 0.005);
}

TEST(StateTest, ScoresComeOverTheWire) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(300, 1), 1, 0, [](v1::Submit* s) {
    s->set_prompt_logprobs_from(100);
    s->set_score_only(true);
    s->mutable_sampling()->set_logprobs(3);
  });
  ASSERT_TRUE(gateway.WaitFinished(1));
  const Received got = gateway.Of(1);
  EXPECT_EQ(got.last.finish(), v1::FINISH_REASON_STOP);
  ASSERT_EQ(got.prompt_logprobs.size(), 200u);
  EXPECT_EQ(got.prompt_logprobs[0].chosen().token_id(), Prompt(300, 1)[100]);
  EXPECT_EQ(got.prompt_logprobs[0].top_size(), 3);
}

TEST(StateTest, PromptLogprobsThatMayBeLostAreAskedForAgain) {
  TestWorker worker({}, Slow(absl::Milliseconds(5)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(300, 1), 1, 0, [](v1::Submit* s) {
    s->set_prompt_logprobs_from(1);
    s->set_score_only(true);
  });
  WaitFor([&] { return !gateway.Of(1).prompt_logprobs.empty(); });
  gateway.Cut();
  ASSERT_TRUE(gateway.Connect());
  gateway.Reattach();
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).last.error_code(), grpc::NOT_FOUND);
}

// Of each of 20 sequences, with 20 alternatives each: far more than a stream's window holds either way.
// ThreadSanitizer makes each take many times as long.
#ifdef __SANITIZE_THREAD__
constexpr uint32_t kUnreadTokens = 100;
#else
constexpr uint32_t kUnreadTokens = 500;
#endif

// One of two gateways reads nothing.
class TwoGatewaysTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(stuck_.Connect());
    ASSERT_TRUE(quick_.Connect());
    stuck_.SetReading(false);
  }
  static TestGateway::Options Second() {
    TestGateway::Options options;
    options.id = "gateway-2";
    return options;
  }

  MetricsRegistry registry_;
  TestWorker worker_{{}, {}, {}, &registry_};
  TestGateway stuck_{worker_.address()}, quick_{worker_.address(), Second()};
};

TEST_F(TwoGatewaysTest, AGatewayThatStopsReadingHoldsUpNobodyElse) {
  for (uint64_t id = 1; id <= 20; ++id) {
    stuck_.Submit(id, Prompt(20, static_cast<int>(id)), kUnreadTokens, 100000,
                  [](v1::Submit* s) { s->mutable_sampling()->set_logprobs(20); });
  }
  quick_.Submit(1, Prompt(20, 1), 100);
  ASSERT_TRUE(quick_.WaitFinished(1));
  stuck_.SetReading(true);
  for (uint64_t id = 1; id <= 20; ++id) {
    ASSERT_TRUE(stuck_.WaitFinished(id));
    EXPECT_EQ(stuck_.Of(id).tokens.size(), kUnreadTokens);
    EXPECT_EQ(stuck_.Of(id).logprobs.size(), kUnreadTokens);
  }
  std::vector<uint32_t> beginning = stuck_.Of(1).tokens;
  beginning.resize(100);
  EXPECT_EQ(beginning, quick_.Of(1).tokens);
}

TEST_F(TwoGatewaysTest, AGatewayThatReadsNothingAndGoesOnAskingIsCutOff) {
  // Each is refused. Some 25 MB of refusals are more than the connection holds either way.
  for (uint64_t id = 1, i = 0; i < 20; ++i) {
    v1::GatewayMessage message;
    for (size_t n = 0; n < GatewaySession::kMaxUnsent; ++n) {
      message.mutable_reattach()->add_sequences()->set_sequence_id(id++);
    }
    stuck_.Send(message);
  }
  WaitFor([&] { return registry_.Text().find("coterie_worker_gateways 1\n") != std::string::npos; });
  stuck_.SetReading(true);
  EXPECT_TRUE(stuck_.WaitClosed());
  quick_.Submit(1, Prompt(20, 1), 100);
  EXPECT_TRUE(quick_.WaitFinished(1));
}

TEST(StateTest, AStreamMustBeginWithHelloAndSoon) {
  WorkerServiceOptions options;
  options.hello_timeout = absl::Milliseconds(300);
  options.max_gateways = 1;
  TestWorker worker({}, {}, options);
  TestGateway rude(worker.address());
  v1::GatewayMessage beat;
  beat.mutable_heartbeat();
  EXPECT_FALSE(rude.ConnectWith(&beat));
  EXPECT_EQ(rude.status().error_code(), grpc::INVALID_ARGUMENT);
  auto stub =
      v1::WorkerService::NewStub(grpc::CreateChannel(worker.address(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto mute = stub->Attach(&context);
  v1::WorkerMessage message;
  EXPECT_FALSE(mute->Read(&message));
  EXPECT_EQ(mute->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  TestGateway first(worker.address());
  ASSERT_TRUE(first.Connect());
  first.Submit(1, Prompt(10, 1), 1);  // one that never asked for anything would give way
  ASSERT_TRUE(first.WaitFinished(1));
  TestGateway::Options another;
  another.id = "gateway-2";
  TestGateway second(worker.address(), another);
  EXPECT_FALSE(second.Connect());
  EXPECT_EQ(second.status().error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_THAT(second.status().error_message(), HasSubstr("at most 1 gateways"));
}

TEST(StateTest, AMessageTooLargeIsRefusedAndTheWorkerGoesOn) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(3'000'000, 1), 1);
  ASSERT_TRUE(gateway.WaitClosed());
  EXPECT_EQ(gateway.status().error_code(), grpc::RESOURCE_EXHAUSTED);
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(2, Prompt(10, 1), 5);
  ASSERT_TRUE(gateway.WaitFinished(2));
}

TEST(StateTest, DrainingFinishesWhatRunsAndRefusesWhatIsNew) {
  TestWorker worker({}, Slow(absl::Milliseconds(2)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  EXPECT_EQ(HealthOf(worker.address(), ""), 1);
  EXPECT_EQ(HealthOf(worker.address(), "coterie.v1.WorkerService"), 1);
  EXPECT_EQ(HealthOf(worker.address(), "no.such.Service"), -1);
  gateway.Submit(1, Prompt(20, 1), 200);
  WaitFor([&] { return !gateway.Of(1).tokens.empty(); });
  int handed_over = -1;
  std::thread drain([&] { handed_over = worker.server->Drain(absl::Seconds(20)); });
  WaitFor([&] { return gateway.State().draining(); });
  EXPECT_EQ(HealthOf(worker.address(), "coterie.v1.WorkerService"), 2);
  gateway.Submit(2, Prompt(20, 2), 5);
  ASSERT_TRUE(gateway.WaitFinished(2));
  EXPECT_EQ(gateway.Of(2).last.error_code(), grpc::UNAVAILABLE);
  EXPECT_THAT(gateway.Of(2).last.error_message(), HasSubstr("draining"));
  drain.join();
  EXPECT_EQ(handed_over, 0);
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).tokens.size(), 200u);
}

TEST(StateTest, ALostDeviceEndsEverySequenceAndIsNoPlannedDrain) {
  FakeModelOptions model = Slow(absl::Milliseconds(2));
  model.lost_at_step = 30;
  absl::Notification told;
  WorkerServiceOptions options;
  options.on_device_lost = [&](const Status& why) {
    EXPECT_EQ(why, absl::UnavailableError("the fake device was lost at step 30"));
    told.Notify();
  };
  TestWorker worker({}, model, options);
  TestGateway gateway(worker.address()), other(worker.address(), {.id = "gateway-2"});
  ASSERT_TRUE(gateway.Connect());
  ASSERT_TRUE(other.Connect());
  gateway.Submit(1, Prompt(20, 1), 1000);
  gateway.Submit(2, Prompt(20, 2), 1000);
  told.WaitForNotification();
  EXPECT_EQ(worker.server->HandOver(absl::UnavailableError("the second reason"), absl::Seconds(20)), 2);
  EXPECT_EQ(HealthOf(worker.address(), "coterie.v1.WorkerService"), 2);
  for (const uint64_t id : {1, 2}) {
    ASSERT_TRUE(gateway.WaitFinished(id));
    EXPECT_EQ(gateway.Of(id).last.error_code(), grpc::UNAVAILABLE);
    EXPECT_EQ(gateway.Of(id).last.error_message(),
              "worker worker-1 lost its device: the fake device was lost at step 30");
  }
  EXPECT_FALSE(gateway.Of(1).tokens.empty());
  // Gateways without a sequence here hear of it as well.
  WaitFor([&] { return gateway.State().device_lost() && other.State().device_lost(); });
  EXPECT_FALSE(gateway.State().draining());
  other.Submit(1, Prompt(20, 1), 10);
  ASSERT_TRUE(other.WaitFinished(1));
  EXPECT_EQ(other.Of(1).last.error_code(), grpc::UNAVAILABLE);
  worker.service->EndStreams();
  ASSERT_TRUE(other.WaitClosed());
  EXPECT_THAT(other.status().error_message(), HasSubstr("lost its device"));
}

// The engine's thread may be held in the driver: the service ends the sequences by itself.
TEST(StateTest, HandingOverAsksNothingOfTheEngine) {
  TestWorker worker({}, Slow(absl::Milliseconds(300)));
  TestGateway gateway(worker.address()), silent(worker.address(), {.id = "gateway-2"});
  ASSERT_TRUE(gateway.Connect());
  ASSERT_TRUE(silent.Connect());
  gateway.Submit(1, Prompt(20, 1), 1000);
  silent.Submit(1, Prompt(20, 2), 1000);
  WaitFor([&] { return worker.engine->stats().running == 2; });
  silent.SetReading(false);  // what it does not take holds up nobody beyond the timeout
  EXPECT_EQ(worker.server->HandOver(absl::UnavailableError("it hangs"), absl::Milliseconds(200)), 2);
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).last.error_message(), "worker worker-1 lost its device: it hangs");
  const size_t n_tokens = gateway.Of(1).tokens.size();
  absl::SleepFor(absl::Milliseconds(700));  // two steps later
  EXPECT_EQ(gateway.Of(1).tokens.size(), n_tokens);
  silent.SetReading(true);
}

TEST(StateTest, WhatDrainingCannotFinishGoesOnElsewhereWithTheSameText) {
  TestWorker worker({}, Slow(absl::Milliseconds(2))), other;
  TestGateway gateway(worker.address()), elsewhere(other.address());
  ASSERT_TRUE(gateway.Connect());
  ASSERT_TRUE(elsewhere.Connect());
  gateway.Submit(1, Prompt(20, 1), 1000);
  WaitFor([&] { return gateway.Of(1).tokens.size() > 20; });
  EXPECT_EQ(worker.server->Drain(absl::Milliseconds(50)), 1);
  ASSERT_TRUE(gateway.WaitFinished(1));
  const Received got = gateway.Of(1);
  EXPECT_EQ(got.last.error_code(), grpc::UNAVAILABLE);
  EXPECT_THAT(got.last.error_message(), HasSubstr("go on elsewhere"));
  elsewhere.Submit(1, Prompt(20, 1), 1000, 2000, [&](v1::Submit* s) {
    s->mutable_resume_ids()->Assign(got.tokens.begin(), got.tokens.end());
  });
  elsewhere.Submit(2, Prompt(20, 1), 1000, 2000);
  ASSERT_TRUE(elsewhere.WaitFinished(1));
  ASSERT_TRUE(elsewhere.WaitFinished(2));
  std::vector<uint32_t> whole = got.tokens;
  const Received rest = elsewhere.Of(1);
  EXPECT_EQ(rest.begin, got.tokens.size());
  whole.insert(whole.end(), rest.tokens.begin(), rest.tokens.end());
  EXPECT_EQ(whole, elsewhere.Of(2).tokens);
}

TEST(StateTest, MetricsTellWhatHappenedAndThatNoByteWentToOtherWorkers) {
  MetricsRegistry registry;
  TestWorker worker({}, {}, {}, &registry);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  const Digest digest = worker.MakeAdapter("law");
  for (uint64_t id : {1, 2}) {
    gateway.Submit(id, Prompt(40, 1), 10, 100, [&](v1::Submit* s) {
      s->add_adapters()->set_digest(digest.ToBytes());
      s->mutable_adapters(0)->set_weight(1);
      s->mutable_adapters(0)->set_name("law");
    });
    ASSERT_TRUE(gateway.WaitFinished(id));
  }
  EXPECT_EQ(gateway.State().bytes_between_workers(), 0u);
  auto has = [&](const std::string& line) { return registry.Text().find(line) != std::string::npos; };
  for (const char* line :
       {"coterie_worker_generated_tokens_total 20\n", "coterie_worker_adapter_misses_total 1\n",
        "coterie_worker_adapter_hits_total 1\n", "coterie_worker_adapter_load_seconds_count 1\n",
        "coterie_worker_adapter_loads_total{from=\"peft\"} 1\n",
        "coterie_worker_adapter_loads_total{from=\"packed\"} 0\n",
        "coterie_worker_prefix_cache_hit_tokens_total 32\n", "coterie_worker_adapters_resident 1\n",
        "coterie_worker_bytes_between_workers_total 0\n", "coterie_worker_gateways 1\n",
        "coterie_worker_expert_requests_total{expert=\"law\"} 2\n",
        "coterie_worker_expert_adapter_hits_total{expert=\"law\"} 1\n",
        "coterie_worker_expert_adapter_misses_total{expert=\"law\"} 1\n", "vllm:num_requests_running 0\n",
        "vllm:num_requests_waiting 0\n", "vllm:kv_cache_usage_perc 0",
        "coterie_worker_sequences_total{reason=\"length\"} 2\n",
        "coterie_worker_time_to_first_token_seconds_count 2\n", "vllm:lora_requests_info{max_lora=\"16\""}) {
    WaitFor([&] { return has(line); });
    EXPECT_TRUE(has(line)) << line;
  }
  worker.traffic.AddSent(5);
  WaitFor([&] { return has("coterie_worker_bytes_between_workers_total 5\n"); });
  WaitFor([&] { return gateway.State().bytes_between_workers() == 5; });
}

TEST(StateTest, APortThatIsTakenIsNamed) {
  TestWorker worker;
  const StatusOr<std::unique_ptr<WorkerServer>> second =
      WorkerServer::Start(worker.address(), worker.service.get(), 100);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot listen on " + worker.address()));
}

}  // namespace
}  // namespace coterie::worker
