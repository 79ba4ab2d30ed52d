// Who may attach to a worker: a shared secret, a gateway's own streams, places.
#include "common/file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/service/test_gateway.h"

namespace coterie::worker {
namespace {

using ::testing::HasSubstr;
using Side = SharedSecret::Side;

class AccessTest : public ::testing::Test {
 protected:
  std::unique_ptr<SharedSecret> Secret(const std::string& name, char letter) {
    const std::string path =
        ::testing::TempDir() + "/" + name + ::testing::UnitTest::GetInstance()->current_test_info()->name();
    EXPECT_TRUE(WriteFileAtomically(path, std::string(40, letter)).ok());
    auto opened = SharedSecret::Open(path);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  static WorkerServiceOptions With(SharedSecret* secret) {
    WorkerServiceOptions options;
    options.secret = secret;
    options.hello_timeout = absl::Milliseconds(300);
    return options;
  }
  static v1::GatewayMessage HelloOf(const std::string& id, const std::string& stream_key) {
    v1::GatewayMessage message;
    v1::GatewayHello* hello = message.mutable_hello();
    hello->set_protocol_version(1);
    hello->set_gateway_id(id);
    hello->set_base_digest(Sha256("fake").ToBytes());
    hello->set_tokenizer_digest(Sha256("fake tokenizer").ToBytes());
    hello->set_heartbeat_interval_ms(100);
    hello->set_silence_timeout_ms(3000);
    hello->set_stream_key(stream_key);
    return message;
  }
};

// A stream that a test drives message by message.
class Attaching {
 public:
  explicit Attaching(const std::string& address)
      : stub_(v1::WorkerService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))),
        stream_(stub_->Attach(&context_)) {}
  ~Attaching() { context_.TryCancel(); }

  void Send(const v1::GatewayMessage& message) { stream_->Write(message); }
  v1::WorkerMessage Read() {
    v1::WorkerMessage message;
    stream_->Read(&message);
    return message;
  }
  grpc::Status End() {
    v1::WorkerMessage message;
    while (stream_->Read(&message)) {
    }
    return stream_->Finish();
  }

 private:
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::GatewayMessage, v1::WorkerMessage>> stream_;
};

TEST_F(AccessTest, WhoKnowsTheSecretAttachesAndNobodyElse) {
  const auto ours = Secret("ours", 's'), theirs = Secret("theirs", 't');
  TestWorker worker({}, {}, With(ours.get()));

  TestGateway open(worker.address());
  EXPECT_FALSE(open.Connect());
  EXPECT_EQ(open.status().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(open.status().error_message(), HasSubstr("--worker-secret"));

  for (SharedSecret* secret : {ours.get(), theirs.get()}) {
    Attaching stream(worker.address());
    v1::GatewayMessage hello = HelloOf("gw-1", "key");
    hello.mutable_hello()->set_nonce(SharedSecret::DrawNonce());
    stream.Send(hello);
    const v1::WorkerMessage challenge = stream.Read();
    ASSERT_TRUE(challenge.has_challenge()) << challenge.DebugString();
    const HandshakeFacts facts{"gw-1", hello.hello().nonce(), challenge.challenge().nonce()};
    EXPECT_TRUE(ours->Believes(Side::kWorker, facts, challenge.challenge().proof()));
    v1::GatewayMessage answer;
    answer.mutable_challenge_answer()->set_proof(secret->Prove(Side::kGateway, facts));
    stream.Send(answer);
    if (secret == ours.get()) {
      EXPECT_TRUE(stream.Read().has_hello());
      continue;
    }
    const grpc::Status status = stream.End();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED);
    EXPECT_THAT(status.error_message(), HasSubstr("does not know this worker's shared secret"));
  }
}

TEST_F(AccessTest, WhatWasOverheardProvesNothingAgain) {
  const auto secret = Secret("secret", 's');
  TestWorker worker({}, {}, With(secret.get()));
  v1::GatewayMessage hello = HelloOf("gw-1", "key"), answer;
  hello.mutable_hello()->set_nonce(SharedSecret::DrawNonce());
  for (const bool replayed : {false, true}) {
    Attaching stream(worker.address());
    stream.Send(hello);
    const v1::WorkerMessage challenge = stream.Read();
    if (!replayed) {
      answer.mutable_challenge_answer()->set_proof(
          secret->Prove(Side::kGateway, {"gw-1", hello.hello().nonce(), challenge.challenge().nonce()}));
    }
    stream.Send(answer);
    if (!replayed) {
      EXPECT_TRUE(stream.Read().has_hello());
    } else {
      EXPECT_EQ(stream.End().error_code(), grpc::StatusCode::UNAUTHENTICATED);
    }
  }
  // Reflecting the worker's own proof is no better.
  Attaching stream(worker.address());
  stream.Send(hello);
  answer.mutable_challenge_answer()->set_proof(stream.Read().challenge().proof());
  stream.Send(answer);
  EXPECT_EQ(stream.End().error_code(), grpc::StatusCode::UNAUTHENTICATED);
}

TEST_F(AccessTest, BeforeTheProofNothingIsTaken) {
  const auto secret = Secret("secret", 's');
  TestWorker worker({}, {}, With(secret.get()));
  v1::GatewayMessage hello = HelloOf("gw-1", "key"), submit;
  hello.mutable_hello()->set_nonce(SharedSecret::DrawNonce());
  submit.mutable_submit()->set_sequence_id(1);
  {
    Attaching stream(worker.address());
    stream.Send(hello);
    EXPECT_TRUE(stream.Read().has_challenge());
    stream.Send(submit);
    EXPECT_EQ(stream.End().error_code(), grpc::StatusCode::UNAUTHENTICATED);
  }
  // One that never answers is let go, and never had a place.
  Attaching silent(worker.address());
  silent.Send(hello);
  EXPECT_EQ(silent.End().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(AccessTest, AnIdAloneTakesOverNothing) {
  TestWorker worker({}, Slow(absl::Milliseconds(20)));
  Attaching first(worker.address());
  first.Send(HelloOf("gw-1", "its own key"));
  ASSERT_TRUE(first.Read().has_hello());
  for (const std::string key : {"", "guessed"}) {
    Attaching thief(worker.address());
    thief.Send(HelloOf("gw-1", key));
    const grpc::Status status = thief.End();
    EXPECT_EQ(status.error_code(), grpc::StatusCode::PERMISSION_DENIED) << key;
  }
  // The first goes on, and its own next stream takes its place.
  EXPECT_TRUE(first.Read().has_heartbeat());
  Attaching second(worker.address());
  second.Send(HelloOf("gw-1", "its own key"));
  EXPECT_TRUE(second.Read().has_hello());
  EXPECT_EQ(first.End().error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(AccessTest, PlacesAreForThoseWhoAsk) {
  WorkerServiceOptions options;
  options.max_gateways = 3;
  TestWorker worker({}, {}, options);
  TestGateway busy(worker.address(), {.id = "busy"});
  ASSERT_TRUE(busy.Connect());
  busy.Submit(1, Prompt(4, 1), 3);
  ASSERT_TRUE(busy.WaitFinished(1));
  // Invented ones take what is left; the real one comes afterwards, as after its restart.
  TestGateway one(worker.address(), {.id = "invented-1"}), two(worker.address(), {.id = "invented-2"});
  ASSERT_TRUE(one.Connect());
  ASSERT_TRUE(two.Connect());
  TestGateway real(worker.address(), {.id = "real"});
  EXPECT_TRUE(real.Connect()) << real.status().error_message();
  real.Submit(1, Prompt(4, 2), 3);
  EXPECT_TRUE(real.WaitFinished(1));
  EXPECT_TRUE(one.WaitClosed());  // the oldest that asked for nothing
  EXPECT_EQ(one.status().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  busy.Submit(2, Prompt(4, 3), 3);
  EXPECT_TRUE(busy.WaitFinished(2));
  two.Submit(1, Prompt(4, 4), 3);
  EXPECT_TRUE(two.WaitFinished(1));
  // All three have asked now.
  TestGateway late(worker.address(), {.id = "late"});
  EXPECT_FALSE(late.Connect());
  EXPECT_EQ(late.status().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

}  // namespace
}  // namespace coterie::worker
