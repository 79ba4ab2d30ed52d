// What a link tells those who follow its sequences, and on whose thread.
#include "gateway/upstream/worker_link.h"

#include <atomic>
#include <list>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "coterie/v1/cluster.grpc.pb.h"
#include "tests/gateway/gateway_test_base.h"
#include "tests/testing/captured_log.h"

namespace coterie::gateway::testing {
namespace {

// Holds whoever brings it the news of a lost worker until it is let go, as hundreds of placements would.
class SlowObserver final : public SequenceObserver {
 public:
  void OnOutput(SequenceOutput) override {}
  void OnWorkerSuspect(uint64_t) override {}
  void OnReattached(uint64_t) override {}
  void OnWorkerLost(uint64_t, const WorkerLoss& loss) override {
    planned = loss.planned;
    told.Notify();
    go_on.WaitForNotification();
  }

  absl::Notification told, go_on;
  std::atomic<bool> planned = false;
};

class CountingObserver final : public SequenceObserver {
 public:
  void OnOutput(SequenceOutput) override { ++n_outputs; }
  void OnWorkerSuspect(uint64_t) override {}
  void OnReattached(uint64_t) override {}
  void OnWorkerLost(uint64_t, const WorkerLoss&) override {}

  std::atomic<int> n_outputs = 0;
};

class WorkerLinkTest : public ::testing::Test {
 protected:
  WorkerLinkOptions QuickLink() {
    WorkerLinkOptions options = QuickOptions({}).link;
    options.gateway_id = "test";
    options.base = Sha256("base");
    options.tokenizer = Sha256("tokenizer");
    return options;
  }
  std::shared_ptr<WorkerLink> LinkTo(const FakeWorker& worker, const WorkerLinkOptions& options) {
    auto link = WorkerLink::Start(options, worker.address(), &timers_, &streams_, pool_, board_);
    EXPECT_TRUE(Eventually([&] { return link->Report().health == WorkerHealth::kReady; }));
    return link;
  }
  void Submit(WorkerLink* link, const std::shared_ptr<SequenceObserver>& observer) {
    SequenceRequest request;
    request.prompt_ids = {1, 2, 3};
    request.sampling.max_tokens = 4000;
    request.sampling.seed = 1;
    EXPECT_TRUE(link->Submit(++last_id_, request, observer).ok());
  }

  // The worker that gets a request at this moment; empty when none would.
  std::string PlacedAt() {
    PlacementRequest request;
    request.base = Sha256("base");
    request.n_prompt_tokens = 10;
    request.max_new_tokens = 10;
    const auto chosen = board_->Place(Placer::Create({}).value(), request);
    return chosen.ok() ? chosen->placement.worker_id : "";
  }

  TimerQueue timers_;
  StreamThreads streams_;
  std::shared_ptr<WorkerBoard> board_ = std::make_shared<WorkerBoard>();
  std::shared_ptr<WorkPool> pool_ = std::make_shared<WorkPool>("placement", 1, 100);
  uint64_t last_id_ = 0;
};

TEST_F(WorkerLinkTest, WhoIsSlowToHearOfALostWorkerHoldsNoHeartbeats) {
  FakeWorker lost({.worker_id = "lost"}), other({.worker_id = "other"});
  const auto link = LinkTo(lost, QuickLink());
  const auto other_link = LinkTo(other, QuickLink());
  const auto observer = std::make_shared<SlowObserver>();
  Submit(link.get(), observer);
  lost.Freeze();  // lost by its silence, which a timer notices
  observer->told.WaitForNotification();
  // Timers go on, and the other worker stays heard well beyond the time that silence is allowed.
  absl::Notification beat;
  timers_.After(2 * QuickLink().silence_timeout, [&] { beat.Notify(); });
  beat.WaitForNotification();
  EXPECT_EQ(other_link->Report().health, WorkerHealth::kReady);
  EXPECT_EQ(PlacedAt(), "other");
  EXPECT_FALSE(observer->planned);
  observer->go_on.Notify();
  lost.Thaw();
  link->Stop(absl::UnavailableError("over"));
  other_link->Stop(absl::UnavailableError("over"));
  EXPECT_EQ(PlacedAt(), "");
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
}

// A client's calls, thousands of them perhaps, are served by these threads.
TEST_F(WorkerLinkTest, WhoHoldsAllOfGrpcsThreadsHoldsNoHeartbeats) {
  FakeWorker worker({});
  const auto stub = v1::ClusterService::NewStub(  // which it does not have
      grpc::CreateChannel(worker.address(), grpc::InsecureChannelCredentials()));
  const auto link = LinkTo(worker, QuickLink());
  constexpr int kCalls = 64;  // gRPC has 16 such threads at most
  absl::Notification go_on;
  absl::BlockingCounter over(kCalls);
  std::atomic<int> n_held = 0;
  std::list<grpc::ClientContext> contexts;
  const v1::StatusRequest request;
  v1::StatusResponse response[kCalls];
  for (auto& one : response) {
    stub->async()->Status(&contexts.emplace_back(), &request, &one, [&](const grpc::Status&) {
      ++n_held;
      go_on.WaitForNotification();
      over.DecrementCount();
    });
  }
  EXPECT_TRUE(Eventually([&] { return n_held > 0; }));
  absl::SleepFor(2 * QuickLink().silence_timeout);
  EXPECT_EQ(link->Report().health, WorkerHealth::kReady);
  const auto observer = std::make_shared<CountingObserver>();
  Submit(link.get(), observer);
  EXPECT_TRUE(Eventually([&] { return observer->n_outputs > 10; }));
  EXPECT_LT(n_held, kCalls);  // they were held all the while
  go_on.Notify();
  over.Wait();
  link->Stop(absl::UnavailableError("over"));
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
}

TEST_F(WorkerLinkTest, AClosedPortIsALostWorkerAtOnce) {
  FakeWorker::Options patient;
  patient.reattach_grace = absl::Hours(1);
  WorkerLinkOptions options = QuickLink();
  options.reattach_grace = absl::Hours(1);
  FakeWorker worker(patient);
  const auto link = LinkTo(worker, options);
  const auto observer = std::make_shared<SlowObserver>();
  Submit(link.get(), observer);
  worker.Kill();
  observer->told.WaitForNotification();  // and not in an hour
  EXPECT_EQ(link->Report().health, WorkerHealth::kLost);
  EXPECT_EQ(PlacedAt(), "");
  EXPECT_FALSE(observer->planned);
  observer->go_on.Notify();
  link->Stop(absl::UnavailableError("over"));
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
}

// It says so with every message; the log must not fill the disk.
TEST_F(WorkerLinkTest, StatesThatCannotBeReadAreLoggedOnceAMinute) {
  CapturedLog log;
  FakeWorker worker({.worker_id = "odd", .malformed_states = true});
  const auto link = LinkTo(worker, QuickLink());
  const auto observer = std::make_shared<SlowObserver>();
  Submit(link.get(), observer);
  ASSERT_TRUE(Eventually([&] { return worker.tokens_sent() > 20; }));  // each in a step with a state
  EXPECT_EQ(link->Report().health, WorkerHealth::kReady);              // what it says beside is good
  observer->go_on.Notify();
  link->Stop(absl::UnavailableError("over"));
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
  pool_->Stop();
  EXPECT_EQ(log.Count("state ignored: state.resident_added"), 1u);
}

TEST_F(WorkerLinkTest, AWorkerThatIsRefusedAgainAndAgainIsLoggedOnce) {
  CapturedLog log;
  FakeWorker worker({.base = Sha256("another base")});
  WorkerLinkOptions options = QuickLink();
  options.refused_retry = absl::Milliseconds(5);
  const auto link = WorkerLink::Start(options, worker.address(), &timers_, &streams_, pool_, board_);
  ASSERT_TRUE(Eventually([&] { return worker.hellos() >= 5; }));
  EXPECT_EQ(link->Report().health, WorkerHealth::kRefused);
  link->Stop(absl::UnavailableError("over"));
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
  EXPECT_EQ(log.Count("serves base"), 1u);
}

// Whatever it was about to do: its end is no planned one, and it gets nothing new meanwhile.
TEST_F(WorkerLinkTest, AWorkerThatLostItsDeviceIsLostAndHasFailed) {
  FakeWorker::Options broken;
  broken.device_lost = broken.draining = true;
  broken.reattach_grace = absl::Hours(1);
  WorkerLinkOptions options = QuickLink();
  options.reattach_grace = absl::Hours(1);
  FakeWorker worker(broken);
  const auto link = WorkerLink::Start(options, worker.address(), &timers_, &streams_, pool_, board_);
  ASSERT_TRUE(Eventually([&] { return link->Report().health == WorkerHealth::kLost; }));
  EXPECT_EQ(link->Report().message, "its device was lost; it is about to end");
  EXPECT_EQ(PlacedAt(), "");
  const auto observer = std::make_shared<SlowObserver>();
  Submit(link.get(), observer);
  worker.Kill();
  observer->told.WaitForNotification();
  EXPECT_FALSE(observer->planned);
  observer->go_on.Notify();
  link->Stop(absl::UnavailableError("over"));
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
}

// It would stand in the log, in errors and in `coterie status` for as long as the worker is known.
TEST_F(WorkerLinkTest, AWorkerThatSaysTooMuchOfItselfIsRefusedByTheField) {
  struct Case {
    FakeWorker::Options options;
    const char* words;
  };
  for (const Case& c : std::vector<Case>{
           {{.worker_id = std::string(257, 'w')}, "hello.worker_id: \"www"},
           {{.worker_id = "two\nlines"}, "hello.worker_id: \"two\\nlines\" holds"},
           {{.device_name = "two\nlines"}, "hello.device_name: \"two\\nlines\" holds"},
           {{.numerics_class = std::string(257, 'c')}, "has 257 bytes, the limit is 256"},
           {{.serves = std::vector<std::string>(1025, "law")},
            "hello.serves: 1025 patterns, the limit is 1024"},
           {{.serves = {std::string(257, '*')}}, "hello.serves: \"***"},
           {{.end_token_ids = std::vector<uint32_t>(1025, 7)}, "hello.end_token_ids has 1025 entries"}}) {
    FakeWorker worker(c.options);
    const auto link = WorkerLink::Start(QuickLink(), worker.address(), &timers_, &streams_, pool_, board_);
    EXPECT_TRUE(Eventually([&] { return link->Report().health == WorkerHealth::kRefused; })) << c.words;
    EXPECT_THAT(link->Report().message, ::testing::HasSubstr(c.words));
    EXPECT_EQ(link->Report().identity.worker_id, "");
    link->Stop(absl::UnavailableError("over"));
  }
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
}

TEST_F(WorkerLinkTest, AWorkerThatSaidItDrainsMayGoAndHasNotFailed) {
  FakeWorker::Options leaving;
  leaving.draining = true;
  leaving.reattach_grace = absl::Hours(1);
  WorkerLinkOptions options = QuickLink();
  options.reattach_grace = absl::Hours(1);
  FakeWorker worker(leaving);
  const auto link = WorkerLink::Start(options, worker.address(), &timers_, &streams_, pool_, board_);
  ASSERT_TRUE(Eventually([&] { return link->Report().health == WorkerHealth::kDraining; }));
  const auto observer = std::make_shared<SlowObserver>();
  Submit(link.get(), observer);
  worker.Kill();
  observer->told.WaitForNotification();
  EXPECT_TRUE(observer->planned);
  observer->go_on.Notify();
  link->Stop(absl::UnavailableError("over"));
  EXPECT_TRUE(streams_.WaitForAll(absl::Minutes(1)));
}

}  // namespace
}  // namespace coterie::gateway::testing
