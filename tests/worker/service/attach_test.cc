// Streams between gateways and a worker: hello, output, credit, broken connections, several gateways.
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/testing/captured_log.h"
#include "tests/worker/service/test_gateway.h"

namespace coterie::worker {
namespace {

using ::testing::HasSubstr;

// The answer an undisturbed worker gives.
std::vector<uint32_t> Expected(std::vector<uint32_t> prompt, uint32_t max_tokens) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  EXPECT_TRUE(gateway.Connect());
  gateway.Submit(1, std::move(prompt), max_tokens);
  EXPECT_TRUE(gateway.WaitFinished(1));
  return gateway.Of(1).tokens;
}

TEST(AttachTest, HelloSaysWhatTheWorkerIs) {
  WorkerServiceOptions options;
  options.serves = {"law-*"};
  TestWorker worker({}, {}, options);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  const v1::WorkerHello hello = gateway.Hello();
  EXPECT_EQ(hello.worker_id(), "worker-1");
  EXPECT_EQ(hello.incarnation(), worker.service->incarnation());
  EXPECT_EQ(hello.base_digest(), Sha256("fake").ToBytes());
  EXPECT_EQ(hello.numerics_class(), "fake");
  EXPECT_TRUE(hello.batch_invariant());
  EXPECT_EQ(hello.device(), "cpu");
  EXPECT_EQ(hello.device_name(), "none (the fake model)");
  EXPECT_EQ(hello.kv_block_tokens(), 16u);
  EXPECT_EQ(hello.kv_blocks(), 512u);
  EXPECT_EQ(hello.max_sequence_tokens(), 4096u);
  EXPECT_EQ(hello.serves(0), "law-*");
  TestWorker other;
  EXPECT_NE(other.service->incarnation(), worker.service->incarnation());
}

TEST(AttachTest, HelloSaysWhereTextsDependOnWhatRunsBesideThem) {
  FakeModelOptions model;
  model.numerics_class = "cuda/1 sm90 w=stored a=bf16 kv=bf16 prefill=cublaslt-13.0.0";
  model.batch_invariant = false;
  TestWorker worker({}, model);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  const v1::WorkerHello hello = gateway.Hello();
  ASSERT_TRUE(hello.has_batch_invariant()) << "what is not said counts as true";
  EXPECT_FALSE(hello.batch_invariant());
  EXPECT_EQ(hello.numerics_class(), model.numerics_class);
}

TEST(AttachTest, AMismatchIsRefusedNamingBothSides) {
  TestWorker worker;
  struct Case {
    TestGateway::Options options;
    grpc::StatusCode code;
    std::string message;
  };
  TestGateway::Options protocol, base, tokenizer, nameless, two_lines;
  protocol.protocol = 9;
  base.base = Sha256("other");
  tokenizer.tokenizer = Sha256("other");
  nameless.id = "";
  two_lines.id = "gateway\n[error] all is lost";
  const Case cases[] = {
      {protocol, grpc::FAILED_PRECONDITION, "the gateway speaks protocol 9, this worker speaks 1"},
      {base, grpc::FAILED_PRECONDITION,
       "base " + Sha256("other").Short() + ", this worker with base " + Sha256("fake").Short()},
      {tokenizer, grpc::FAILED_PRECONDITION, "tokenizer " + Sha256("other").Short()},
      {nameless, grpc::INVALID_ARGUMENT, "gateway_id has 0 bytes"},
      {two_lines, grpc::INVALID_ARGUMENT, "gateway_id holds other characters than printable ones"},
  };
  for (const Case& c : cases) {
    TestGateway gateway(worker.address(), c.options);
    EXPECT_FALSE(gateway.Connect());
    EXPECT_EQ(gateway.status().error_code(), c.code) << c.message;
    EXPECT_THAT(gateway.status().error_message(), HasSubstr(c.message));
  }
}

// Whoever reaches the port may knock as often as he likes; the log must not fill the disk.
TEST(AttachTest, GatewaysThatAreRefusedAgainAndAgainAreLoggedOnce) {
  CapturedLog log;
  {
    TestWorker worker;
    TestGateway::Options options;
    options.base = Sha256("other");
    for (int i = 0; i < 5; ++i) {
      TestGateway gateway(worker.address(), options);
      EXPECT_FALSE(gateway.Connect());
    }
  }
  EXPECT_EQ(log.Count("refused: the gateway works with base"), 1u);
}

TEST(AttachTest, ASequenceIsAnsweredWithPositionsAndAnEnd) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(5, Prompt(40, 1), 30, 1000, [](v1::Submit* s) { s->mutable_sampling()->set_logprobs(2); });
  ASSERT_TRUE(gateway.WaitFinished(5));
  const Received got = gateway.Of(5);
  EXPECT_EQ(got.tokens.size(), 30u);
  EXPECT_EQ(got.last.finish(), v1::FINISH_REASON_LENGTH);
  ASSERT_EQ(got.logprobs.size(), 30u);
  EXPECT_EQ(got.logprobs[3].chosen().token_id(), got.tokens[3]);
  EXPECT_EQ(got.logprobs[3].top_size(), 2);
}

TEST(AttachTest, AMixtureIsOneSequenceOnTheWireOfAsManyMembersAsTheHelloSays) {
  EngineOptions options;
  options.max_seqs = 4;
  TestWorker worker(options);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  EXPECT_EQ(gateway.Hello().max_mixture_members(), 4u);
  const auto mix = [&](uint64_t id, int n_members, float weight) {
    gateway.Submit(id, Prompt(40, 1), 20, 1000, [&](v1::Submit* submit) {
      for (int i = 0; i < n_members; ++i) {
        v1::AdapterUse* use = submit->add_adapters();
        use->set_digest(worker.MakeAdapter(absl::StrCat("member ", i)).ToBytes());
        use->set_weight(1);
        submit->add_mixture()->set_adapters(1);
        submit->mutable_mixture(i)->set_weight(weight);
      }
    });
    EXPECT_TRUE(gateway.WaitFinished(id));
    return gateway.Of(id);
  };
  const Received mixed = mix(1, 4, 0.25f);
  EXPECT_EQ(mixed.tokens.size(), 20u);
  EXPECT_EQ(mixed.last.finish(), v1::FINISH_REASON_LENGTH);
  for (const auto& [id, refused] : {std::pair{2, mix(2, 5, 0.2f)}, std::pair{3, mix(3, 2, 0.25f)}}) {
    EXPECT_EQ(refused.last.error_code(), grpc::INVALID_ARGUMENT);
    EXPECT_THAT(refused.last.error_message(),
                HasSubstr(id == 2 ? "the mixture has 5 members; this worker mixes at most 4" : "sum to 0.5"));
  }
}

TEST(AttachTest, ErrorsComeAsTheSequencesEnd) {
  EngineOptions options;
  options.max_seqs = 1;
  options.max_waiting = 1;
  options.max_batch_tokens = 32;
  options.max_logit_rows = 4;
  TestWorker worker(options, Slow(absl::Milliseconds(5)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, {}, 5);
  gateway.Submit(2, Prompt(8, 1), 5, 10, [](v1::Submit* s) { s->mutable_sampling()->set_top_p(7); });
  gateway.Submit(3, Prompt(8, 1), 5, 10, [](v1::Submit* s) { s->add_adapters()->set_digest("short"); });
  gateway.Submit(4, Prompt(8, 1), 5, 10, [](v1::Submit* s) {
    s->add_adapters()->set_digest(Sha256("missing").ToBytes());
    s->mutable_adapters(0)->set_weight(1);
  });
  for (uint64_t id : {1, 2, 3, 4}) ASSERT_TRUE(gateway.WaitFinished(id)) << id;
  EXPECT_EQ(gateway.Of(1).last.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(gateway.Of(2).last.error_message(), HasSubstr("top_p is 7"));
  EXPECT_THAT(gateway.Of(3).last.error_message(), HasSubstr("digest"));
  EXPECT_EQ(gateway.Of(4).last.error_code(), grpc::NOT_FOUND);
  EXPECT_THAT(gateway.Of(4).last.error_message(), HasSubstr(Sha256("missing").Short()));
  for (uint64_t id : {11, 12, 13}) gateway.Submit(id, Prompt(8, 1), 500, 1000);
  ASSERT_TRUE(gateway.WaitFinished(13));
  EXPECT_EQ(gateway.Of(13).last.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_THAT(gateway.Of(13).last.error_message(), HasSubstr("queue is full"));
  gateway.Cancel(11);
  gateway.Cancel(12);
}

TEST(AttachTest, AMessageMayBringAsManyTokensAsASequenceMayHave) {
  FakeModelOptions model;
  model.context_length = 2'000'000;
  model.n_kv_blocks = 125'000;
  TestWorker worker({}, model);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  // 6 MB of ids, all of them beyond the vocabulary: the engine says so, the stream lives on.
  std::vector<uint32_t> prompt(1'500'000, 1u << 21);
  gateway.Submit(1, prompt, 5);
  ASSERT_TRUE(gateway.WaitFinished(1)) << gateway.status().error_message();
  EXPECT_EQ(gateway.Of(1).last.error_code(), grpc::INVALID_ARGUMENT);
  EXPECT_THAT(gateway.Of(1).last.error_message(), HasSubstr("token id 2097152 in the prompt"));
  gateway.Submit(2, Prompt(20, 1), 5);
  ASSERT_TRUE(gateway.WaitFinished(2));
  EXPECT_EQ(gateway.Of(2).tokens.size(), 5u);
}

TEST(AttachTest, NoMoreTokensAreSentThanCreditWasGiven) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(20, 1), 100, 10);
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(gateway.Of(1).tokens.size(), 10u);
  gateway.Grant(1, 25);
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(gateway.Of(1).tokens.size(), 35u);
  gateway.Grant(1, 1000);
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).tokens, Expected(Prompt(20, 1), 100));
}

TEST(AttachTest, ABrokenConnectionLosesNothing) {
  const std::vector<uint32_t> expected = Expected(Prompt(30, 3), 200);
  TestWorker worker({}, Slow(absl::Milliseconds(2)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(30, 3), 200);
  const std::string incarnation = gateway.Hello().incarnation();
  for (int cut = 0; cut < 4; ++cut) {
    const size_t before = gateway.Of(1).tokens.size();
    for (int i = 0; i < 100 && gateway.Of(1).tokens.size() < before + 20; ++i)
      absl::SleepFor(absl::Milliseconds(5));
    gateway.Cut();
    absl::SleepFor(absl::Milliseconds(30));  // tokens go on meanwhile
    ASSERT_TRUE(gateway.Connect());
    EXPECT_EQ(gateway.Hello().incarnation(), incarnation);
    gateway.Reattach();
  }
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).tokens, expected);
  EXPECT_EQ(worker.engine->stats().generated_tokens, 200u);  // nothing was computed twice
}

TEST(AttachTest, AnEndThatWasLostWithTheConnectionIsSentAgain) {
  TestWorker worker({}, Slow(absl::Milliseconds(1)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(30, 3), 40);
  for (int i = 0; i < 1000 && gateway.Of(1).tokens.empty(); ++i) absl::SleepFor(absl::Milliseconds(1));
  gateway.Cut();
  // It ends while nobody listens.
  for (int i = 0; i < 4000 && worker.engine->stats().running > 0; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(worker.engine->stats().running, 0u);
  ASSERT_TRUE(gateway.Connect());
  gateway.Reattach();
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).tokens, Expected(Prompt(30, 3), 40));
}

TEST(AttachTest, ReattachRestatesCreditAndDropsWhatItDoesNotList) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(20, 1), 100, 10);
  gateway.Submit(2, Prompt(20, 2), 100, 10);
  for (int i = 0; i < 1000 && gateway.Of(2).tokens.size() < 10; ++i) absl::SleepFor(absl::Milliseconds(1));
  gateway.Cut();
  ASSERT_TRUE(gateway.Connect());
  v1::GatewayMessage message;
  v1::Reattach::Position* position = message.mutable_reattach()->add_sequences();
  position->set_sequence_id(1);
  position->set_next_position(10);
  position->set_credit(7);
  gateway.Send(message);
  absl::SleepFor(absl::Milliseconds(200));
  EXPECT_EQ(gateway.Of(1).tokens.size(), 17u);
  EXPECT_EQ(worker.engine->stats().kv_blocks_used, 3u) << "37 tokens of sequence 1, nothing of sequence 2";
}

TEST(AttachTest, AnUnknownSequenceIsNotFoundOnReattach) {
  TestWorker worker;
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  v1::GatewayMessage message;
  message.mutable_reattach()->add_sequences()->set_sequence_id(77);
  gateway.Send(message);
  ASSERT_TRUE(gateway.WaitFinished(77));
  EXPECT_EQ(gateway.Of(77).last.error_code(), grpc::NOT_FOUND);
}

TEST(AttachTest, AfterTheGraceTimeTheSequencesAreGone) {
  WorkerServiceOptions options;
  options.reattach_grace = absl::Milliseconds(200);
  TestWorker worker({}, Slow(absl::Milliseconds(5)), options);
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(30, 3), 2000);
  for (int i = 0; i < 1000 && gateway.Of(1).tokens.empty(); ++i) absl::SleepFor(absl::Milliseconds(1));
  gateway.Cut();
  for (int i = 0; i < 400 && worker.engine->stats().running > 0; ++i) absl::SleepFor(absl::Milliseconds(5));
  EXPECT_EQ(worker.engine->stats().running, 0u);
  EXPECT_EQ(worker.engine->stats().kv_blocks_used, 0u);
  ASSERT_TRUE(gateway.Connect());
  gateway.Reattach();
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).last.error_code(), grpc::NOT_FOUND);
}

TEST(AttachTest, ASilentGatewayIsCutOffAndItsSequencesWait) {
  TestGateway::Options silent;
  silent.beats = false;
  silent.silence_ms = 300;
  TestWorker worker({}, Slow(absl::Milliseconds(2)));
  TestGateway gateway(worker.address(), silent);
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(30, 3), 300);
  ASSERT_TRUE(gateway.WaitClosed());
  // Cancelled when a message was on its way at that moment.
  EXPECT_THAT(gateway.status().error_code(), ::testing::AnyOf(grpc::DEADLINE_EXCEEDED, grpc::CANCELLED));
  gateway.SetBeats(true);
  ASSERT_TRUE(gateway.Connect());
  gateway.Reattach();
  ASSERT_TRUE(gateway.WaitFinished(1));
  EXPECT_EQ(gateway.Of(1).tokens, Expected(Prompt(30, 3), 300));
}

TEST(AttachTest, ANewerStreamTakesTheOlderOnesPlace) {
  TestWorker worker({}, Slow(absl::Milliseconds(2)));
  TestGateway::Options rare;
  rare.heartbeat_ms = 10'000;
  rare.silence_ms = 60'000;
  TestGateway older(worker.address(), rare);
  ASSERT_TRUE(older.Connect());
  older.Submit(1, Prompt(30, 3), 100, /*credit=*/5);
  ASSERT_TRUE(older.WaitTokens(1, 5));
  TestGateway newer(worker.address());
  ASSERT_TRUE(newer.Connect());
  ASSERT_TRUE(older.WaitClosed());
  // A message still on its way is given up with the stream, whose end is then CANCELLED. What has arrived may
  // be on its way for the worker: its gRPC says later that it was written.
  EXPECT_THAT(older.status().error_code(), ::testing::AnyOf(grpc::ABORTED, grpc::CANCELLED));
  v1::GatewayMessage message;
  message.mutable_reattach()->add_sequences()->set_sequence_id(1);
  message.mutable_reattach()->mutable_sequences(0)->set_credit(1000);
  newer.Send(message);
  ASSERT_TRUE(newer.WaitFinished(1));
  EXPECT_EQ(newer.Of(1).tokens, Expected(Prompt(30, 3), 100));
}

TEST(AttachTest, GatewaysDoNotSeeEachOthersSequences) {
  TestWorker worker({}, Slow(absl::Milliseconds(1)));
  TestGateway::Options second;
  second.id = "gateway-2";
  TestGateway a(worker.address()), b(worker.address(), second);
  ASSERT_TRUE(a.Connect());
  ASSERT_TRUE(b.Connect());
  a.Submit(1, Prompt(30, 1), 50);
  b.Submit(1, Prompt(30, 2), 50);
  b.Cancel(99);
  ASSERT_TRUE(a.WaitFinished(1));
  ASSERT_TRUE(b.WaitFinished(1));
  EXPECT_EQ(a.Of(1).tokens, Expected(Prompt(30, 1), 50));
  EXPECT_EQ(b.Of(1).tokens, Expected(Prompt(30, 2), 50));
}

TEST(AttachTest, OneStepMessageCarriesAllSequencesOfTheGateway) {
  TestWorker worker({}, Slow(absl::Milliseconds(5)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  for (uint64_t id = 1; id <= 8; ++id) gateway.Submit(id, Prompt(10, static_cast<int>(id)), 50);
  for (uint64_t id = 1; id <= 8; ++id) ASSERT_TRUE(gateway.WaitFinished(id));
  EXPECT_LE(gateway.steps(), 70);  // 400 outputs
}

TEST(AttachTest, ACancelledSequenceFreesItsBlocksAtOnce) {
  TestWorker worker({}, Slow(absl::Milliseconds(2)));
  TestGateway gateway(worker.address());
  ASSERT_TRUE(gateway.Connect());
  gateway.Submit(1, Prompt(100, 1), 2000);
  for (int i = 0; i < 1000 && gateway.Of(1).tokens.empty(); ++i) absl::SleepFor(absl::Milliseconds(1));
  EXPECT_GT(worker.engine->stats().kv_blocks_used, 0u);
  gateway.Cancel(1);
  for (int i = 0; i < 1000 && worker.engine->stats().kv_blocks_used > 0; ++i)
    absl::SleepFor(absl::Milliseconds(1));
  EXPECT_EQ(worker.engine->stats().kv_blocks_used, 0u);
}

}  // namespace
}  // namespace coterie::worker
