#include <array>
#include <string>
#include <thread>
#include <vector>

#include "common/clock.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr uint32_t kTokens = 300;

FakeWorker::Options Named(const std::string& id, const std::string& numerics_class = "fake") {
  FakeWorker::Options options;
  options.worker_id = id;
  options.numerics_class = numerics_class;
  return options;
}

// Two workers, and an answer whose own worker is broken after 40 tokens.
class FailoverTest : public ::testing::Test {
 protected:
  FailoverTest()
      : workers_{std::make_unique<FakeWorker>(Named("w0")), std::make_unique<FakeWorker>(Named("w1"))} {}

  std::vector<std::string> Addresses() const { return {workers_[0]->address(), workers_[1]->address()}; }
  size_t IndexOf(const std::string& id) const { return id == "w0" ? 0 : 1; }

  template <typename Break>
  Answer AskAndBreak(TestGateway& gateway, uint64_t seed, Break do_break) {
    bool broken = false;
    return Ask(gateway.stub.get(), BaseRequest(seed, kTokens), [&](const Answer& so_far) {
      if (broken || so_far.token_ids.size() < 40 || !so_far.route.worker().starts_with("w")) return;
      broken = true;
      do_break(IndexOf(so_far.route.worker()));
    });
  }

  void ExpectWhole(const Answer& answer, uint64_t seed) {
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text, FakeText(seed, kTokens));
    EXPECT_EQ(answer.token_ids.size(), kTokens);
    EXPECT_EQ(answer.finish.reason(), v1::FINISH_REASON_LENGTH);
  }

  // A new process takes the killed one's port.
  void KillAndReplace(const std::string& id) {
    std::unique_ptr<FakeWorker>& worker = workers_[IndexOf(id)];
    FakeWorker::Options again = Named(id);
    again.port = worker->port();
    worker->Kill();
    worker = std::make_unique<FakeWorker>(again);
  }

  std::array<std::unique_ptr<FakeWorker>, 2> workers_;
};

// Who is writing it.
std::string WorkerOf(const Answer& so_far) {
  return so_far.notices.empty() ? so_far.route.worker() : so_far.notices.back().worker();
}

TEST_F(FailoverTest, AnAnswerWhoseWorkerIsKilledGoesOnElsewhereWithTheSameText) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  const Answer answer = AskAndBreak(gateway, 11, [&](size_t i) { workers_[i]->Kill(); });
  ExpectWhole(answer, 11);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  EXPECT_NE(answer.notices[0].worker(), answer.route.worker());
  EXPECT_EQ(answer.finish.worker(), answer.notices[0].worker());
  // It went on from the tokens it had.
  EXPECT_GE(workers_[IndexOf(answer.finish.worker())]->last_submit().resume_ids_size(), 40);
}

TEST_F(FailoverTest, AStoppedWorkerIsLostAndItsLateTokensAreIgnored) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  size_t frozen = 0;
  const Answer answer = AskAndBreak(gateway, 12, [&](size_t i) {
    frozen = i;
    workers_[i]->Freeze();
  });
  ExpectWhole(answer, 12);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  EXPECT_THAT(answer.notices[0].message(), HasSubstr("said nothing for"));
  // It wakes up, is taken back, and forgets what went on elsewhere.
  workers_[frozen]->Thaw();
  EXPECT_TRUE(gateway.Ready(2));
  EXPECT_TRUE(Eventually([&] { return workers_[frozen]->live_sequences() == 0; }));
  ExpectWhole(Ask(gateway.stub.get(), BaseRequest(13, kTokens)), 13);
}

TEST_F(FailoverTest, ThawingWhileTheAnswerGoesOnElsewhereChangesNothing) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  std::thread waker;
  const Answer answer = AskAndBreak(gateway, 14, [&](size_t i) {
    workers_[i]->Freeze();
    waker = std::thread([this, i] {
      absl::SleepFor(absl::Milliseconds(1000));
      workers_[i]->Thaw();
    });
  });
  waker.join();
  ExpectWhole(answer, 14);
}

TEST_F(FailoverTest, AWorkerOfAnotherClassGoesOnFromTheTokensSentAndSaysSo) {
  FakeWorker other(Named("other", "FAKE"));
  TestGateway gateway(QuickOptions({workers_[0]->address(), other.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  size_t n_before = 0;
  std::string begun_on;
  bool broken = false;
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(15, kTokens), [&](const Answer& so_far) {
    if (broken || so_far.token_ids.size() < 40) return;
    broken = true;
    begun_on = so_far.route.worker();
    (begun_on == "other" ? other : *workers_[0]).Kill();
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED_OTHER_NUMERICS);
  ASSERT_EQ(answer.token_ids.size(), kTokens);
  const std::string first = begun_on == "other" ? "FAKE" : "fake";
  const std::string second = begun_on == "other" ? "fake" : "FAKE";
  EXPECT_EQ(answer.finish.numerics_class(), second);
  while (n_before < kTokens &&
         answer.token_ids[n_before] ==
             static_cast<uint32_t>(FakeToken(15, static_cast<uint32_t>(n_before), "", first))) {
    ++n_before;
  }
  EXPECT_GE(n_before, 40u);
  for (size_t i = n_before; i < kTokens; ++i) {
    ASSERT_EQ(answer.token_ids[i], static_cast<uint32_t>(FakeToken(15, static_cast<uint32_t>(i), "", second)))
        << i;
  }
}

// The class is the same and the text happens to be: but nobody promises it.
TEST_F(FailoverTest, WhereTextsDependOnWhatRunsBesideThemTheSameTextIsNotPromised) {
  for (const bool first_varies : {true, false}) {
    std::array<FakeWorker::Options, 2> options = {Named("w0"), Named("w1")};
    options[0].batch_invariant = !first_varies;
    options[1].batch_invariant = first_varies;
    for (size_t i = 0; i < 2; ++i) workers_[i] = std::make_unique<FakeWorker>(options[i]);
    TestGateway gateway(QuickOptions(Addresses()));
    ASSERT_TRUE(gateway.Ready(2));
    const Answer answer = AskAndBreak(gateway, 16, [&](size_t i) { workers_[i]->Kill(); });
    ExpectWhole(answer, 16);
    ASSERT_EQ(answer.notices.size(), 1u);
    EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED_OTHER_NUMERICS);
  }
}

TEST_F(FailoverTest, AWorkerOfTheSameClassIsPreferred) {
  std::vector<std::unique_ptr<FakeWorker>> others;
  std::vector<std::string> addresses = Addresses();
  for (int i = 0; i < 3; ++i) {
    others.push_back(std::make_unique<FakeWorker>(Named("other" + std::to_string(i), "FAKE")));
    addresses.push_back(others.back()->address());
  }
  TestGateway gateway(QuickOptions(addresses));
  ASSERT_TRUE(gateway.Ready(5));
  for (uint64_t seed = 20; seed < 40; ++seed) {
    const Answer answer = AskAndBreak(gateway, seed, [&](size_t i) { workers_[i]->Kill(); });
    if (answer.notices.empty()) continue;  // this one began on a worker of the other class
    EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
    ExpectWhole(answer, seed);
    return;
  }
  GTEST_SKIP() << "no answer began on a worker of the class that has a twin";
}

TEST_F(FailoverTest, LosingOnlyTheConnectionLosesNothing) {
  TcpProxy proxy(workers_[0]->port());
  TestGateway gateway(QuickOptions({proxy.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = AskAndBreak(gateway, 16, [&](size_t) { proxy.Cut(); });
  ExpectWhole(answer, 16);
  EXPECT_EQ(workers_[0]->submits(), 1u);  // taken up, not begun again
  EXPECT_EQ(workers_[0]->reattaches(), 1u);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_REATTACHED);
}

TEST_F(FailoverTest, ManyCutsInOneAnswerLoseNothing) {
  TcpProxy proxy(workers_[0]->port());
  TestGateway gateway(QuickOptions({proxy.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  size_t next_cut = 10;
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(17, kTokens), [&](const Answer& so_far) {
    if (so_far.token_ids.size() < next_cut) return;
    next_cut = so_far.token_ids.size() + 40;
    proxy.Cut();
  });
  ExpectWhole(answer, 17);
  EXPECT_GE(workers_[0]->reattaches(), 3u);
}

TEST_F(FailoverTest, ABlackHoleIsALostWorkerAndItsSequencesGoOnElsewhere) {
  TcpProxy p0(workers_[0]->port());
  TcpProxy p1(workers_[1]->port());
  TestGateway gateway(QuickOptions({p0.address(), p1.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  const Answer answer = AskAndBreak(gateway, 18, [&](size_t i) { (i == 0 ? p0 : p1).SetBlackHole(true); });
  ExpectWhole(answer, 18);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  p0.SetBlackHole(false);
  p1.SetBlackHole(false);
  EXPECT_TRUE(gateway.Ready(2));
}

TEST_F(FailoverTest, ADelayShorterThanTheSilenceChangesNothing) {
  TcpProxy proxy(workers_[0]->port());
  TestGateway gateway(QuickOptions({proxy.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = AskAndBreak(gateway, 19, [&](size_t) { proxy.SetDelay(absl::Milliseconds(150)); });
  ExpectWhole(answer, 19);
  EXPECT_TRUE(answer.notices.empty());
}

TEST_F(FailoverTest, ANewProcessOnTheSamePortBeginsAgainFromTheTokensSent) {
  TestGateway gateway(QuickOptions({workers_[0]->address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const int port = workers_[0]->port();
  const Answer answer = AskAndBreak(gateway, 21, [&](size_t) {
    workers_[0]->Kill();
    FakeWorker::Options options = Named("w0");
    options.port = port;
    workers_[0] = std::make_unique<FakeWorker>(options);
  });
  ExpectWhole(answer, 21);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  // Whichever was seen first: that nobody listened, or that somebody else did.
  EXPECT_THAT(answer.notices[0].message(),
              AnyOf(HasSubstr("was replaced by a new process"), HasSubstr("its port refuses connections")));
  EXPECT_GE(workers_[0]->last_submit().resume_ids_size(), 40);
}

TEST_F(FailoverTest, WithAllWorkersGoneItEndsInBoundedTimeWithWords) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  const MonotonicTime begin = MonotonicNow();
  const Answer answer = AskAndBreak(gateway, 22, [&](size_t) {
    workers_[0]->Kill();
    workers_[1]->Kill();
  });
  EXPECT_LT(MonotonicNow() - begin, absl::Seconds(8));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("no worker for the request within 2s"));
  EXPECT_THAT(answer.status.error_message(), HasSubstr(workers_[0]->address()));
  EXPECT_EQ(answer.text, FakeText(22, static_cast<uint32_t>(answer.text.size())));
  // And a new request is told the same.
  const Answer next = Ask(gateway.stub.get(), BaseRequest(1, 5));
  EXPECT_EQ(next.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(FailoverTest, AnAnswerMovesOnlySoOften) {
  GatewayOptions options = QuickOptions(Addresses());
  options.session.max_moves = 2;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(2));
  for (auto& worker : workers_) worker->FailAll(grpc::StatusCode::UNAVAILABLE, "the device fell off");
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(23, 5));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("lost its worker 3 times"));
  EXPECT_THAT(answer.status.error_message(), HasSubstr("the device fell off"));
}

TEST_F(FailoverTest, APromptThatKillsEveryWorkerEndsAfterFewMoves) {
  std::vector<std::unique_ptr<FakeWorker>> more;
  std::vector<std::string> addresses = Addresses();
  for (int i = 0; i < 6; ++i) {
    more.push_back(std::make_unique<FakeWorker>(Named("more" + std::to_string(i))));
    addresses.push_back(more.back()->address());
  }
  TestGateway gateway(QuickOptions(addresses));
  ASSERT_TRUE(gateway.Ready(8));
  uint64_t n_submits = 0;
  for (auto& worker : workers_) worker->FailAll(grpc::StatusCode::UNAVAILABLE, "the device fell off");
  for (auto& worker : more) worker->FailAll(grpc::StatusCode::UNAVAILABLE, "the device fell off");
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(30, 5));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("lost its worker 4 times and got on by too little"));
  for (auto& worker : workers_) n_submits += worker->submits();
  for (auto& worker : more) n_submits += worker->submits();
  EXPECT_EQ(n_submits, 4u);
}

TEST_F(FailoverTest, AnAnswerThatGetsOnOutlivesAnyNumberOfLosses) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  size_t next_kill = 20;
  int n_kills = 0;
  // Whoever has it is killed again and again.
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(31, kTokens), [&](const Answer& so_far) {
    if (so_far.token_ids.size() < next_kill || n_kills == 10) return;
    next_kill = so_far.token_ids.size() + 20;
    ++n_kills;
    KillAndReplace(WorkerOf(so_far));
  });
  EXPECT_EQ(n_kills, 10);
  ExpectWhole(answer, 31);
}

TEST_F(FailoverTest, PlannedHandOversDoNotCount) {
  GatewayOptions options = QuickOptions(Addresses());
  options.session.max_moves = 0;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(2));
  size_t next = 20;
  int n_restarts = 0;
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(32, kTokens), [&](const Answer& so_far) {
    if (so_far.token_ids.size() < next || n_restarts == 8) return;
    next = so_far.token_ids.size() + 20;
    // The one it left before is there again by now.
    if (!gateway.Ready(2)) return;
    ++n_restarts;
    FakeWorker* const leaving = workers_[IndexOf(WorkerOf(so_far))].get();
    leaving->HandOver();
    EXPECT_TRUE(Eventually([&] { return leaving->live_sequences() == 0; }));
    // Where it had no sequence, its word that it leaves may still be on the way.
    EXPECT_TRUE(Eventually([&] { return gateway.server->core().workers->ready() < 2; }));
    KillAndReplace(WorkerOf(so_far));
  });
  EXPECT_EQ(n_restarts, 8);
  ExpectWhole(answer, 32);
  // The client lags behind, so that now and then it was not the answer's worker that left.
  EXPECT_GE(answer.notices.size(), 4u);
  for (const WorkerReport& report : gateway.server->core().workers->Report()) {
    EXPECT_EQ(report.ejections, 0u) << report.message;
  }
}

TEST_F(FailoverTest, AFlappingWorkerIsLeftAloneUnlessItIsTheLast) {
  TcpProxy proxy(workers_[0]->port());
  GatewayOptions options = QuickOptions({proxy.address(), workers_[1]->address()});
  options.link.outliers.first = absl::Hours(1);
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(2));
  const WorkerPool& workers = *gateway.server->core().workers;
  const auto flapping = [&] {
    for (const WorkerReport& report : workers.Report()) {
      if (report.identity.worker_id == "w0") return report;
    }
    return WorkerReport();
  };
  for (uint64_t cut = 1; cut <= 2; ++cut) {
    proxy.Cut();
    EXPECT_TRUE(Eventually([&] { return workers_[0]->reattaches() >= cut; }));
    EXPECT_TRUE(gateway.Ready(2));
  }
  ASSERT_GT(flapping().ejected_for, absl::ZeroDuration());
  EXPECT_EQ(flapping().ejections, 1u);
  EXPECT_THAT(flapping().message, HasSubstr("ejected for"));
  for (uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_EQ(Ask(gateway.stub.get(), BaseRequest(seed, 5)).route.worker(), "w1");
  }
  workers_[1]->Kill();
  EXPECT_TRUE(Eventually([&] { return workers.ready() == 1; }));
  EXPECT_EQ(Ask(gateway.stub.get(), BaseRequest(1, 5)).route.worker(), "w0");
}

TEST_F(FailoverTest, AnErrorOfTheRequestItselfIsNotTriedAgain) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  for (auto& worker : workers_)
    worker->FailAll(grpc::StatusCode::FAILED_PRECONDITION, "adapter x does not fit");
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(24, 5));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("adapter x does not fit"));
  EXPECT_EQ(workers_[0]->submits() + workers_[1]->submits(), 1u);
}

TEST_F(FailoverTest, ManyAnswersSurviveTheLossOfOneWorker) {
  TestGateway gateway(QuickOptions(Addresses()));
  ASSERT_TRUE(gateway.Ready(2));
  std::vector<Answer> answers(16);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < answers.size(); ++i) {
    clients.emplace_back([&, i] { answers[i] = Ask(gateway.stub.get(), BaseRequest(100 + i, kTokens)); });
  }
  absl::SleepFor(absl::Milliseconds(200));
  workers_[0]->Kill();
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < answers.size(); ++i) ExpectWhole(answers[i], 100 + i);
}

TEST_F(FailoverTest, TwoGatewaysShareTheWorkersWithoutMixing) {
  TestGateway first(QuickOptions(Addresses()));
  TestGateway second(QuickOptions(Addresses()));
  ASSERT_TRUE(first.Ready(2));
  ASSERT_TRUE(second.Ready(2));
  std::vector<Answer> answers(8);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < answers.size(); ++i) {
    TestGateway& gateway = i % 2 == 0 ? first : second;
    clients.emplace_back([&, i] { answers[i] = Ask(gateway.stub.get(), BaseRequest(200 + i, kTokens)); });
  }
  absl::SleepFor(absl::Milliseconds(150));
  workers_[1]->Kill();
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < answers.size(); ++i) ExpectWhole(answers[i], 200 + i);
}

}  // namespace
}  // namespace coterie::gateway::testing
