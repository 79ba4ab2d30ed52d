// Workers and connections that break in mid-answer: the client reads the text it would have read.
#include <signal.h>

#include <algorithm>
#include <set>

#include "common/clock.h"
#include "common/exit_code.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/gateway/tcp_proxy.h"

namespace coterie::cluster {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

// Broken once every answer has so many of its 160 tokens.
constexpr size_t kTokensBefore = 20;

class FailoverTest : public ClusterTest {
 protected:
  void StartTwoWorkers(const std::vector<std::string>& gateway_flags = {}) {
    workers_.push_back(StartWorker("w0"));
    workers_.push_back(StartWorker("w1"));
    gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()}, gateway_flags);
    v1::PublishExpertResponse published;
    ASSERT_TRUE(Publish(*gateway_, {}, &published).ok());
  }

  // Half of them to an expert, half to the base.
  static std::vector<v1::GenerateRequest> Mixed(size_t n) {
    std::vector<v1::GenerateRequest> requests = Questions("one", n);
    for (size_t i = 1; i < n; i += 2) requests[i].set_expert("base");
    return requests;
  }

  // Answers that this worker had not ended went on elsewhere, and said so.
  static void ExpectResumedFrom(const std::string& lost, const std::deque<Answer>& answers) {
    int n_moved = 0;
    for (const Answer& answer : answers) {
      if (answer.route.worker() != lost || answer.finish.worker() == lost) continue;
      ++n_moved;
      ASSERT_FALSE(answer.notices.empty());
      EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
      EXPECT_NE(answer.notices[0].worker(), lost);
      EXPECT_EQ(answer.token_ids.size(), 160u);
    }
    EXPECT_GT(n_moved, 0) << "no answer moved away from " << lost;
  }

  // One that has answers under way, as the gateway knows it: a worker's own /metrics lag by half a second.
  WorkerProcess* BusyWorker() {
    WorkerProcess* busy = nullptr;
    EXPECT_TRUE(Eventually([&] {
      const v1::StatusResponse status = gateway_->Status();
      for (const v1::WorkerStatus& worker : status.workers()) {
        if (worker.running() > 0) busy = workers_[worker.worker_id() == "w0" ? 0 : 1].get();
      }
      return busy != nullptr;
    }));
    return busy == nullptr ? workers_[0].get() : busy;
  }

  // Under answers that are to have these texts all the same; `lost` gets its id.
  void KillABusyWorker(Asking* asking, const std::vector<std::string>& expected, std::string* lost) {
    ASSERT_TRUE(asking->WaitForTokens(kTokensBefore));
    WorkerProcess* const busy = BusyWorker();
    *lost = busy->id;
    busy->process->Kill();
    EXPECT_EQ(Texts(asking->Join()), expected);
    ExpectResumedFrom(*lost, asking->Join());
  }

  // Asks twice, the second time with a busy worker killed meanwhile: the texts are the same. Returns the
  // second answers.
  std::deque<Answer> AskUnderAKill(const std::vector<v1::GenerateRequest>& requests, std::string* lost) {
    const std::vector<std::string> expected = AskAll(*gateway_, requests);
    Asking asking({gateway_->generation.get()}, requests);
    KillABusyWorker(&asking, expected, lost);
    return asking.Join();
  }

  // "two" beside "one", and questions to both of them.
  std::vector<v1::GenerateRequest> QuestionsToBoth(v1::CollaborationMode mode) {
    v1::PublishExpertResponse published;
    EXPECT_TRUE(Publish(*gateway_, {.name = "two", .adapter = "llama-all-linear"}, &published).ok());
    std::vector<v1::GenerateRequest> requests = Questions("", 6);
    for (v1::GenerateRequest& request : requests) {
      request.mutable_collaboration()->set_mode(mode);
      for (const char* name : {"one", "two"})
        request.mutable_collaboration()->add_members()->set_expert(name);
    }
    return requests;
  }

  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(FailoverTest, AnswersWhoseWorkerIsKilledGoOnElsewhereWithTheSameText) {
  StartTwoWorkers();
  const std::vector<v1::GenerateRequest> requests = Mixed(8);
  const std::vector<std::string> expected = AskAll(*gateway_, requests);
  EXPECT_EQ(std::set<std::string>(expected.begin(), expected.end()).size(), expected.size());

  Asking asking({gateway_->generation.get()}, requests);
  std::string lost;
  ASSERT_NO_FATAL_FAILURE(KillABusyWorker(&asking, expected, &lost));
  EXPECT_GT(MetricSum(gateway_->Metrics(), "coterie_failovers_total"), 0);
}

TEST_F(FailoverTest, ConstrainedAnswersGoOnElsewhereWithTheSameText) {
  StartTwoWorkers();
  std::vector<v1::GenerateRequest> requests = Mixed(6);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].mutable_sampling()->mutable_constraint()->set_regex("[b-y]{300,900}");
    requests[i].mutable_sampling()->set_temperature(i % 2 == 0 ? 1.0f : 0.0f);
  }
  const std::vector<std::string> expected = AskAll(*gateway_, requests);
  for (const std::string& text : expected)
    EXPECT_EQ(text.find_first_not_of("bcdefghijklmnopqrstuvwxy"), std::string::npos) << text;
  Asking asking({gateway_->generation.get()}, requests);
  std::string lost;
  ASSERT_NO_FATAL_FAILURE(KillABusyWorker(&asking, expected, &lost));
}

TEST_F(FailoverTest, MixturesWhoseWorkerIsKilledGoOnElsewhereWithTheSameText) {
  StartTwoWorkers();
  std::vector<v1::GenerateRequest> requests = QuestionsToBoth(v1::COLLABORATION_MODE_MIXTURE);
  for (size_t i = 0; i < requests.size(); ++i) {
    v1::Collaboration* collaboration = requests[i].mutable_collaboration();
    collaboration->mutable_members(0)->set_weight(0.625f);
    collaboration->mutable_members(1)->set_weight(0.375f);
    // Both members have a share of what is drawn.
    requests[i].mutable_sampling()->set_temperature(i % 2 == 0 ? 1.0f : 0.0f);
  }
  std::string lost;
  for (const Answer& answer : AskUnderAKill(requests, &lost)) {
    EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_MIXTURE);
    EXPECT_EQ(answer.route.experts_size(), 2);
  }
  // On one worker each: nothing between them.
  EXPECT_EQ(
      MetricSum(workers_[lost == "w0" ? 1 : 0]->Metrics(), "coterie_worker_bytes_between_workers_total"), 0);
}

TEST_F(FailoverTest, GatedAnswersWhoseWorkerIsKilledGoOnElsewhereWithTheSameText) {
  StartTwoWorkers();
  std::vector<v1::GenerateRequest> requests = QuestionsToBoth(v1::COLLABORATION_MODE_GATED);
  for (size_t i = 0; i < requests.size(); ++i) {
    v1::Collaboration* collaboration = requests[i].mutable_collaboration();
    collaboration->set_gate(i % 2 == 0 ? v1::GATE_KIND_NOISY : v1::GATE_KIND_ARROW);
    collaboration->set_top_k(1);
    requests[i].mutable_sampling()->set_seed(i);
  }
  std::string lost;
  for (const Answer& answer : AskUnderAKill(requests, &lost)) {
    EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_GATED);
    EXPECT_EQ(answer.route.top_k(), 1u);
  }
}

TEST_F(FailoverTest, AnswersOfALostDeviceGoOnElsewhereWithTheSameTextAndItsWorkerEnds) {
  workers_.push_back(StartWorker("w0", {"--fake-lose-device-at=60"}));
  workers_.push_back(StartWorker("w1"));
  gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()});
  v1::PublishExpertResponse published;
  ASSERT_TRUE(Publish(*gateway_, {}, &published).ok());
  const std::vector<v1::GenerateRequest> requests = Mixed(8);
  Asking asking({gateway_->generation.get()}, requests);
  const std::vector<std::string> texts = Texts(asking.Join());
  ExpectResumedFrom("w0", asking.Join());
  for (const Answer& answer : asking.Join()) {
    for (const v1::Notice& notice : answer.notices) {
      EXPECT_THAT(notice.message(), HasSubstr("lost its device"));
    }
  }
  EXPECT_EQ(workers_[0]->process->Wait(), kDeviceLostExitCode);
  EXPECT_THAT(workers_[0]->process->Errors(), HasSubstr("device cpu is lost"));
  EXPECT_EQ(AskAll(*gateway_, requests), texts);  // by the worker that is left, undisturbed
}

TEST_F(FailoverTest, AStoppedWorkerIsLostAndItsLateTokensAreIgnored) {
  StartTwoWorkers();
  const std::vector<v1::GenerateRequest> requests = Mixed(6);
  const std::vector<std::string> expected = AskAll(*gateway_, requests);

  Asking asking({gateway_->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(kTokensBefore));
  WorkerProcess* const stopped = BusyWorker();
  stopped->process->Signal(SIGSTOP);
  // It wakes up while its answers go on elsewhere.
  EXPECT_TRUE(asking.WaitForNotice());
  stopped->process->Signal(SIGCONT);
  EXPECT_EQ(Texts(asking.Join()), expected);
  ExpectResumedFrom(stopped->id, asking.Join());

  // It is taken back, has forgotten what went on elsewhere, and answers as before.
  EXPECT_TRUE(gateway_->Ready(2));
  EXPECT_TRUE(
      Eventually([&] { return MetricSum(stopped->Metrics(), "coterie_worker_sequences_running") == 0; }));
  EXPECT_EQ(AskAll(*gateway_, requests), expected);
}

TEST_F(FailoverTest, LosingOnlyTheConnectionLosesNothingAndSubmitsNothingAgain) {
  const auto worker = StartWorker("w0");
  gateway::testing::TcpProxy proxy(worker->port);
  // Longer than any delay of a busy machine: only the connection is to be lost.
  const auto gateway = StartGateway({proxy.address()}, {"--reattach-grace=20s", "--silence-timeout=20s"});
  const std::vector<v1::GenerateRequest> requests = Questions("base", 4);
  const std::vector<std::string> expected = AskAll(*gateway, requests);

  Asking asking({gateway->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(kTokensBefore));
  proxy.Cut();
  EXPECT_EQ(Texts(asking.Join()), expected);
  for (const Answer& answer : asking.Join()) {
    ASSERT_EQ(answer.notices.size(), 1u);
    EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_REATTACHED);
    EXPECT_EQ(answer.token_ids.size(), 160u);
  }
  // The sequences of both rounds, each submitted once.
  EXPECT_TRUE(
      Eventually([&] { return MetricSum(worker->Metrics(), "coterie_worker_sequences_total") == 8; }));
  const std::string page = gateway->Metrics();
  EXPECT_EQ(MetricSum(page, "coterie_reattachments_total"), 4);
  EXPECT_EQ(MetricSum(page, "coterie_failovers_total"), 0);
}

TEST_F(FailoverTest, ANewProcessOnTheSamePortGoesOnFromTheTokensSent) {
  auto worker = StartWorker("w0");
  const auto gateway = StartGateway({worker->address()}, {"--reattach-grace=20s"});
  const std::vector<v1::GenerateRequest> requests = Questions("base", 4);
  const std::vector<std::string> expected = AskAll(*gateway, requests);

  Asking asking({gateway->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(kTokensBefore));
  const std::string address = worker->address();
  worker->process->Kill();
  worker = StartWorker("w0", {}, address);
  EXPECT_EQ(Texts(asking.Join()), expected);
  for (const Answer& answer : asking.Join()) {
    ASSERT_FALSE(answer.notices.empty());
    EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
    // Whichever was seen first: that nobody listened, or that somebody else did.
    EXPECT_THAT(answer.notices[0].message(),
                AnyOf(HasSubstr("was replaced by a new process"), HasSubstr("its port refuses connections")));
  }
}

TEST_F(FailoverTest, WithAllWorkersGoneAnswersEndInBoundedTimeWithWords) {
  StartTwoWorkers({"--reattach-grace=300ms", "--worker-wait=1s"});
  const std::vector<v1::GenerateRequest> requests = Mixed(4);
  const std::vector<std::string> expected = AskAll(*gateway_, requests);

  Asking asking({gateway_->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(kTokensBefore));
  const MonotonicTime begin = MonotonicNow();
  for (const auto& worker : workers_) worker->process->Kill();
  const std::deque<Answer>& answers = asking.Join();
  // 1.3 s on a machine that does nothing else.
  EXPECT_LT(MonotonicNow() - begin, absl::Seconds(20));
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(answers[i].status.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_THAT(answers[i].status.error_message(), HasSubstr("no worker for the request within 1s"));
    EXPECT_THAT(answers[i].status.error_message(), HasSubstr(workers_[0]->address()));
    // What came before is what would have come.
    EXPECT_EQ(answers[i].text, expected[i].substr(0, answers[i].text.size()));
    EXPECT_FALSE(answers[i].text.empty());
  }
  const Answer next = gateway::testing::Ask(gateway_->generation.get(), requests[0]);
  EXPECT_EQ(next.status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace coterie::cluster
