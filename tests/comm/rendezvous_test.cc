#include <atomic>
#include <filesystem>
#include <thread>

#include "tests/comm/backends.h"
#include "tests/comm/served_rendezvous.h"
#include "tests/gateway/tcp_proxy.h"
#include "worker/rendezvous/rendezvous_wire.h"

// Where members meet: the store, and the store behind a port.
namespace coterie::comm_testing {
namespace {

using gateway::testing::TcpProxy;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using worker::MakeRendezvousToken;
using worker::RendezvousClient;

const AbortFlag kNoAbort;

MonotonicTime Soon() { return MonotonicNow() + absl::Milliseconds(50); }
MonotonicTime MuchLater() { return MonotonicNow() + kLong; }

Status Put(Rendezvous* rendezvous, const RendezvousKey& key, const std::string& text) {
  return rendezvous->Publish(key, text, MuchLater(), kNoAbort);
}
StatusOr<std::string> Get(Rendezvous* rendezvous, const RendezvousKey& key) {
  return rendezvous->Await(key, MuchLater(), kNoAbort);
}
absl::StatusCode CodeOf(const Status& status) { return status.code(); }

void Until(const std::function<bool()>& condition) {
  const MonotonicTime deadline = MuchLater();
  while (!condition()) {
    ASSERT_LT(MonotonicNow(), deadline);
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST(CommRendezvousTest, OldEpochsAreRefusedAndForgotten) {
  InProcessRendezvous rendezvous;
  const RendezvousKey old{"g", 1, 0, "card"}, now{"g", 2, 0, "card"};
  EXPECT_EQ(Put(&rendezvous, old, "x"), absl::OkStatus());
  EXPECT_EQ(CodeOf(Put(&rendezvous, old, "y")), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(*rendezvous.Await(old, MonotonicTime(), kNoAbort), "x");
  EXPECT_EQ(Put(&rendezvous, now, "z"), absl::OkStatus());
  EXPECT_EQ(rendezvous.size(), 1u);
  EXPECT_EQ(CodeOf(Put(&rendezvous, old, "x")), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CodeOf(Get(&rendezvous, old).status()), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(CodeOf(rendezvous.Await({"h", 1, 0, "card"}, MonotonicTime(), kNoAbort).status()),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(rendezvous.n_groups(), 1u);  // who only looks leaves nothing
  rendezvous.Forget("g");
  EXPECT_EQ(rendezvous.size(), 0u);
  EXPECT_EQ(rendezvous.n_groups(), 0u);
  EXPECT_EQ(Put(&rendezvous, old, "x"), absl::OkStatus());
}

TEST(CommRendezvousTest, KeysAndTextsHaveLimits) {
  InProcessRendezvous rendezvous;
  for (const RendezvousKey& wrong :
       {RendezvousKey{"", 1, 0, "card"}, RendezvousKey{"g", 1, -1, "card"},
        RendezvousKey{"g", 1, kMaxMembers, "card"}, RendezvousKey{"g", 1, 0, ""},
        RendezvousKey{std::string(257, 'g'), 1, 0, "card"}, RendezvousKey{"g", 1, 0, std::string(33, 't')}}) {
    EXPECT_EQ(CodeOf(Put(&rendezvous, wrong, "x")), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(CodeOf(Get(&rendezvous, wrong).status()), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(CodeOf(Put(&rendezvous, {"g", 1, 0, "card"}, std::string(Rendezvous::kMaxBytes + 1, 'x'))),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(rendezvous.n_groups(), 0u);
}

TEST(CommRendezvousTest, WhatIsTooMuchIsRefused) {
  const auto refused = [](const Status& status, const std::string& limit) {
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(limit));
  };
  InProcessRendezvous store({.max_groups = 2, .max_texts = 3, .max_bytes = 10, .max_waits = 1});
  for (int rank : {0, 1, 2}) EXPECT_EQ(Put(&store, {"a", 1, rank, "t"}, "x"), absl::OkStatus());
  refused(Put(&store, {"a", 1, 3, "t"}, "x"), "at most 3 texts of one group");
  refused(Put(&store, {"b", 1, 0, "t"}, "12345678"), "at most 10 bytes");
  EXPECT_EQ(Put(&store, {"b", 1, 0, "t"}, "1234567"), absl::OkStatus());
  refused(Put(&store, {"c", 1, 0, "t"}, ""), "at most 2 groups");
  refused(store.Open("c", "token"), "at most 2 groups");
  std::thread waits([&] { EXPECT_EQ(*Get(&store, {"a", 2, 0, "t"}), "new"); });
  Until([&] { return store.n_waits() == 1; });
  refused(Get(&store, {"a", 2, 1, "t"}).status(), "at most 1 waiting calls");
  // A newer epoch takes the place of the older one.
  EXPECT_EQ(Put(&store, {"a", 2, 0, "t"}, "new"), absl::OkStatus());
  waits.join();
  store.Forget("b");
  EXPECT_EQ(Put(&store, {"c", 1, 0, "t"}, "1234567"), absl::OkStatus());
}

TEST(CommRendezvousTest, AGroupThatNobodyAsksForGoes) {
  InProcessRendezvous store({.max_groups = 2, .idle_time = absl::Milliseconds(100)});
  EXPECT_EQ(store.Open("a", "token"), absl::OkStatus());
  EXPECT_EQ(Put(&store, {"a", 1, 0, "t"}, "x"), absl::OkStatus());
  std::thread waits([&] { EXPECT_EQ(*Get(&store, {"b", 1, 0, "t"}), "x"); });
  Until([&] { return store.n_waits() == 1; });
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  EXPECT_EQ(CodeOf(store.Admit("a", "token")), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(store.size(), 0u);
  EXPECT_EQ(store.n_groups(), 1u);  // for which somebody waits
  EXPECT_EQ(Put(&store, {"b", 1, 0, "t"}, "x"), absl::OkStatus());
  waits.join();
}

TEST(CommRendezvousTest, WaitsEndWithTheirGroup) {
  InProcessRendezvous store;
  std::thread waits([&] {
    const Status over = Get(&store, {"a", 1, 0, "t"}).status();
    EXPECT_EQ(over.code(), absl::StatusCode::kAborted) << over;
    EXPECT_THAT(std::string(over.message()), HasSubstr("group \"a\" is over"));
  });
  Until([&] { return store.n_waits() == 1; });
  store.Forget("a");
  waits.join();
  EXPECT_EQ(store.n_waits(), 0u);
}

class ServedRendezvousTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(served_.service().Open("g", token_), absl::OkStatus()); }
  InProcessRendezvous& store() { return *served_.service().local(); }
  // A thread that waits for a text over the wire.
  std::thread Waits(Rendezvous* rendezvous, const RendezvousKey& key, Status* end,
                    const AbortFlag* abort = &kNoAbort) {
    std::thread thread([=, this] { *end = rendezvous->Await(key, MuchLater(), *abort).status(); });
    Until([&] { return store().n_waits() > 0; });
    return thread;
  }

  ServedRendezvous served_{{.max_texts = 4, .max_waits = 2}};
  const std::string token_ = MakeRendezvousToken();
  const std::shared_ptr<RendezvousClient> client_ = served_.Client(token_);
  const RendezvousKey key_{"g", 1, 1, "card"};
};

TEST_F(ServedRendezvousTest, TextsComeAcross) {
  const std::string text("\0\xff\n", 3);
  EXPECT_EQ(Put(client_.get(), key_, text), absl::OkStatus());
  EXPECT_EQ(*Get(served_.Client(token_).get(), key_), text);
  EXPECT_EQ(*Get(&store(), key_), text);  // the server's own member
  EXPECT_EQ(*client_->Await(key_, MonotonicTime(), kNoAbort), text);
  const Status twice = Put(served_.Client(token_).get(), key_, "y");
  EXPECT_EQ(twice.code(), absl::StatusCode::kAlreadyExists) << twice;
  EXPECT_THAT(std::string(twice.message()), AllOf(HasSubstr("somebody is member 1 of group \"g\""),
                                                  HasSubstr("member 0 \"m0\" at " + served_.address())));
  Status end;
  const RendezvousKey later{"g", 1, 2, "card"};
  std::thread waits = Waits(client_.get(), later, &end);
  EXPECT_EQ(Put(&store(), later, "z"), absl::OkStatus());
  waits.join();
  EXPECT_EQ(end, absl::OkStatus());
  const std::string longest(Rendezvous::kMaxBytes, '\xee');
  EXPECT_EQ(Put(client_.get(), {"g", 1, 3, "card"}, longest), absl::OkStatus());
  EXPECT_EQ(*Get(client_.get(), {"g", 1, 3, "card"}), longest);
  EXPECT_EQ(CodeOf(Put(client_.get(), {"g", 1, 4, "card"}, longest + "x")),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(Put(client_.get(), {"g", 1, -1, "card"}, "x")), absl::StatusCode::kInvalidArgument);
}

TEST_F(ServedRendezvousTest, AWaitEndsByItsDeadlineAndWithAnAbort) {
  EXPECT_EQ(Put(client_.get(), {"g", 1, 0, "card"}, "x"), absl::OkStatus());
  const Status late = client_->Await(key_, Soon(), kNoAbort).status();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  EXPECT_EQ(CodeOf(client_->Await(key_, MonotonicTime(), kNoAbort).status()),
            absl::StatusCode::kDeadlineExceeded);
  Until([&] { return store().n_waits() == 0; });
  AbortFlag abort;
  Status end;
  std::thread waits = Waits(client_.get(), key_, &end, &abort);
  abort.Raise();
  waits.join();
  EXPECT_EQ(end.code(), absl::StatusCode::kCancelled) << end;
  Until([&] { return store().n_waits() == 0; });
  EXPECT_EQ(CodeOf(client_->Publish(key_, "x", MuchLater(), abort)), absl::StatusCode::kCancelled);
}

TEST_F(ServedRendezvousTest, ANewerEpochEndsTheWaitsOfAnOlderOne) {
  Status end;
  std::thread waits = Waits(client_.get(), key_, &end);
  EXPECT_EQ(Put(served_.Client(token_).get(), {"g", 7, 0, "card"}, "x"), absl::OkStatus());
  waits.join();
  EXPECT_EQ(end.code(), absl::StatusCode::kFailedPrecondition) << end;
  EXPECT_THAT(std::string(end.message()),
              HasSubstr("epoch 1 of group \"g\" is past; it is forming under epoch 7"));
  EXPECT_EQ(CodeOf(Put(client_.get(), key_, "x")), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ServedRendezvousTest, OnlyWhoKnowsTheTokenMayAskOrTakeKeys) {
  EXPECT_EQ(served_.service().Open("other", MakeRendezvousToken()), absl::OkStatus());
  EXPECT_EQ(CodeOf(served_.service().Open("g", MakeRendezvousToken())), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(CodeOf(served_.service().Open("h", "")), absl::StatusCode::kInvalidArgument);
  // A group of this process alone is nobody's over the wire.
  EXPECT_EQ(Put(&store(), {"mine", 1, 0, "card"}, "x"), absl::OkStatus());
  const auto guesser = served_.Client(MakeRendezvousToken()), nobody = served_.Client("");
  for (const char* group : {"g", "other", "mine", "nowhere"}) {
    for (RendezvousClient* stranger : {guesser.get(), nobody.get()}) {
      const Status refused = Put(stranger, {group, 1, 1, "card"}, "x");
      EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied) << refused;
      EXPECT_THAT(std::string(refused.message()), Not(HasSubstr(token_)));
      EXPECT_EQ(CodeOf(Get(stranger, {group, 1, 1, "card"}).status()), absl::StatusCode::kPermissionDenied);
    }
  }
  EXPECT_EQ(CodeOf(Put(client_.get(), {"other", 1, 1, "card"}, "x")), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(Put(client_.get(), key_, "mine"), absl::OkStatus());
  EXPECT_EQ(store().n_groups(), 3u);
  EXPECT_EQ(token_.size(), 32u);
  EXPECT_NE(token_, MakeRendezvousToken());
}

TEST_F(ServedRendezvousTest, WhatIsTooMuchIsRefusedOverTheWire) {
  for (int rank : {0, 1, 2, 3}) EXPECT_EQ(Put(client_.get(), {"g", 1, rank, "card"}, "x"), absl::OkStatus());
  EXPECT_EQ(CodeOf(Put(client_.get(), {"g", 1, 4, "card"}, "x")), absl::StatusCode::kResourceExhausted);
  AbortFlag abort;
  std::vector<std::thread> waits;
  for (int i = 0; i < 2; ++i) {
    waits.emplace_back([&] {
      EXPECT_EQ(CodeOf(client_->Await({"g", 1, 5, "card"}, MuchLater(), abort).status()),
                absl::StatusCode::kCancelled);
    });
  }
  Until([&] { return store().n_waits() == 2; });
  const Status full = Get(client_.get(), {"g", 1, 6, "card"}).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_THAT(std::string(full.message()), HasSubstr("at most 2 waiting calls"));
  abort.Raise();
  for (std::thread& wait : waits) wait.join();
}

// As another release, or something that is no member at all, might call.
TEST_F(ServedRendezvousTest, CallsOfAnotherVersionOrWithoutABoundAreRefused) {
  const auto stub = v1::RendezvousService::NewStub(
      grpc::CreateChannel(served_.address(), grpc::InsecureChannelCredentials()));
  v1::AwaitRequest request;
  request.mutable_key()->set_group("g");
  request.mutable_key()->set_token(token_);
  request.mutable_key()->set_topic("card");
  const auto call = [&](uint32_t version, absl::Duration timeout) {
    request.mutable_key()->set_version(version);
    grpc::ClientContext context;
    context.set_deadline(net::GrpcDeadline(timeout));
    v1::AwaitResponse response;
    return stub->Await(&context, request, &response);
  };
  const grpc::Status other = call(worker::kRendezvousVersion + 1, kLong);
  EXPECT_EQ(other.error_code(), grpc::StatusCode::FAILED_PRECONDITION) << other.error_message();
  EXPECT_THAT(other.error_message(), HasSubstr("speaks version 1, its client version 2"));
  for (absl::Duration timeout : {absl::InfiniteDuration(), kMaxCommTimeout * 2}) {
    const grpc::Status unbounded = call(worker::kRendezvousVersion, timeout);
    EXPECT_EQ(unbounded.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << unbounded.error_message();
    EXPECT_THAT(unbounded.error_message(), HasSubstr("wants a deadline, at most 1h"));
  }
  request.mutable_key()->set_rank(UINT32_MAX);
  EXPECT_EQ(call(worker::kRendezvousVersion, kLong).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(store().n_waits(), 0u);
}

TEST_F(ServedRendezvousTest, AClientThatGoesFreesItsPlace) {
  TcpProxy proxy(served_.port());
  RendezvousClient far({.address = proxy.address(), .token = token_});
  EXPECT_EQ(Put(&far, {"g", 1, 0, "card"}, "x"), absl::OkStatus());
  Status end;
  std::thread waits = Waits(&far, key_, &end);
  proxy.Cut();
  waits.join();
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable) << end;
  EXPECT_THAT(std::string(end.message()), HasSubstr("at " + proxy.address() + " is lost"));
  Until([&] { return store().n_waits() == 0; });
}

size_t OpenDescriptors() {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

TEST_F(ServedRendezvousTest, ManyClientsAndGroupsLeaveNothingBehind) {
  const size_t n_descriptors = OpenDescriptors();
  for (int i = 0; i < 200; ++i) {
    const std::string group = absl::StrCat("gang ", i), token = MakeRendezvousToken();
    EXPECT_EQ(served_.service().Open(group, token), absl::OkStatus());
    const auto first = served_.Client(token), second = served_.Client(token);
    EXPECT_EQ(Put(first.get(), {group, 1, 0, "card"}, "x"), absl::OkStatus());
    EXPECT_EQ(*Get(second.get(), {group, 1, 0, "card"}), "x");
    served_.service().Close(group);
  }
  EXPECT_EQ(store().size(), 0u);
  EXPECT_EQ(store().n_groups(), 1u);  // the fixture's
  Until([&] { return OpenDescriptors() <= n_descriptors; });
}

TEST_F(ServedRendezvousTest, AServerThatStandsStillIsNamed) {
  TcpProxy proxy(served_.port());
  RendezvousClient far({.address = proxy.address(), .token = token_, .server = "member 0 \"m0\""});
  EXPECT_EQ(Put(&far, {"g", 1, 0, "card"}, "x"), absl::OkStatus());
  proxy.SetBlackHole(true);
  for (const Status& silent :
       {far.Await(key_, Soon(), kNoAbort).status(), far.Await(key_, MonotonicTime(), kNoAbort).status(),
        far.Publish(key_, "x", Soon(), kNoAbort)}) {
    EXPECT_EQ(silent.code(), absl::StatusCode::kUnavailable) << silent;
    EXPECT_THAT(std::string(silent.message()), HasSubstr("the rendezvous of member 0 \"m0\" at"));
    EXPECT_THAT(std::string(silent.message()), HasSubstr("does not answer"));
  }
}

TEST_F(ServedRendezvousTest, AServerThatComesLateIsWaitedForAndOneThatNeverComesIsNamed) {
  int port = 0;
  { port = ServedRendezvous().port(); }
  RendezvousClient client({.address = absl::StrCat("127.0.0.1:", port), .token = token_});
  const Status missing = client.Publish(key_, "x", Soon(), kNoAbort);
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnavailable) << missing;
  EXPECT_THAT(std::string(missing.message()),
              AllOf(HasSubstr(absl::StrCat("127.0.0.1:", port)), HasSubstr("was not reached in time")));
  AbortFlag abort;
  std::thread gives_up([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    abort.Raise();
  });
  EXPECT_EQ(CodeOf(client.Publish(key_, "x", MuchLater(), abort)), absl::StatusCode::kCancelled);
  gives_up.join();
  std::unique_ptr<ServedRendezvous> late;
  std::thread comes([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    late = std::make_unique<ServedRendezvous>(RendezvousLimits(), port);
    EXPECT_EQ(late->service().Open("g", token_), absl::OkStatus());
  });
  // It may answer before it has opened the group.
  Status published = absl::PermissionDeniedError("");
  while (absl::IsPermissionDenied(published)) published = Put(&client, key_, "x");
  EXPECT_EQ(published, absl::OkStatus());
  comes.join();
  // One that has answered and has gone is not waited for.
  late.reset();
  const Status gone = Get(&client, {"g", 1, 3, "card"}).status();
  EXPECT_EQ(gone.code(), absl::StatusCode::kUnavailable) << gone;
  EXPECT_THAT(std::string(gone.message()), HasSubstr("is lost"));
}

TEST_F(ServedRendezvousTest, WaitsEndWhenTheGroupIsClosedAndWhenTheServerEnds) {
  Status end;
  std::thread waits = Waits(client_.get(), key_, &end);
  served_.service().Close("g");
  waits.join();
  EXPECT_EQ(end.code(), absl::StatusCode::kAborted) << end;
  EXPECT_EQ(CodeOf(Put(client_.get(), key_, "x")), absl::StatusCode::kPermissionDenied);

  auto other = std::make_unique<ServedRendezvous>();
  EXPECT_EQ(other->service().Open("g", token_), absl::OkStatus());
  const auto client = other->Client(token_);
  std::thread waits_there([&] { end = Get(client.get(), key_).status(); });
  Until([&] { return other->service().local()->n_waits() == 1; });
  other.reset();
  waits_there.join();
  EXPECT_EQ(end.code(), absl::StatusCode::kUnavailable) << end;
}

}  // namespace
}  // namespace coterie::comm_testing
