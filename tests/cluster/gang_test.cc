// Mixtures over several worker processes: they meet by gRPC, talk by Gloo, and say what one worker with all
// members says, whichever of them breaks.
#include <signal.h>

#include "common/clock.h"
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

using ::testing::HasSubstr;

// Whether a worker's page says that nothing went from it to other workers.
bool SentNothing(const WorkerProcess& worker) {
  return worker.Metrics().find("\ncoterie_worker_bytes_between_workers_total 0\n") != std::string::npos;
}

class GangClusterTest : public ClusterTest {
 protected:
  // For each list of names a worker that serves them alone.
  void StartWorkers(const std::vector<std::string>& serves) {
    std::vector<std::string> addresses;
    for (size_t i = 0; i < serves.size(); ++i) {
      workers_.push_back(StartWorker(absl::StrCat("w", i), {"--serves=" + serves[i]}));
      addresses.push_back(workers_.back()->address());
    }
    gateway_ = StartGateway(addresses, {"--strict-serves"});
    PublishThree(*gateway_);
  }

  // What one worker that holds all members says, asked through a gateway of its own.
  std::string TextOfOne(const v1::GenerateRequest& request) {
    const std::unique_ptr<WorkerProcess> one = StartWorker("one");
    const std::unique_ptr<GatewayProcess> gateway = StartGateway({one->address()});
    EXPECT_TRUE(Eventually([&] { return Generation(*gateway) >= Generation(*gateway_); }));
    const std::string text = AskAll(*gateway, {request})[0];
    EXPECT_TRUE(SentNothing(*one));
    return text;
  }

  static v1::GenerateRequest Mixture(uint32_t max_tokens = 160) {
    v1::GenerateRequest request = Question("base", 5, max_tokens);
    request.clear_expert();
    request.mutable_sampling()->set_temperature(1.0f);
    request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_MIXTURE);
    for (const auto& [name, weight] : {std::pair("alpha", 0.5f), {"beta", 0.25f}, {"gamma", 0.25f}}) {
      v1::CollaborationMember* member = request.mutable_collaboration()->add_members();
      member->set_expert(name);
      member->set_weight(weight);
    }
    return request;
  }

  // Asks the mixture and breaks one of these workers, whichever is in the gang, once the answer is under way.
  std::deque<Answer> AskAndBreak(const std::vector<size_t>& candidates, int signal) {
    Asking asking({gateway_->generation.get()}, {Mixture()});
    EXPECT_TRUE(asking.WaitForTokens(20));
    const v1::StatusResponse status = gateway_->Status();
    for (const v1::WorkerStatus& worker : status.workers()) {
      for (const size_t i : candidates) {
        if (worker.worker_id() != workers_[i]->id || worker.running() == 0) continue;
        workers_[i]->process->Signal(signal);
        return asking.Join();
      }
    }
    ADD_FAILURE() << "none of them runs anything";
    return asking.Join();
  }

  void KillOneAndExpectTheSameText(const std::vector<size_t>& candidates) {
    const std::string text = TextOfOne(Mixture());
    const Answer answer = AskAndBreak(candidates, SIGKILL)[0];
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text, text);
    ASSERT_FALSE(answer.notices.empty());
    EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED) << answer.notices[0].message();
  }

  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(GangClusterTest, SaysWhatOneWorkerWithAllMembersSaysAndOnlyItsBytesGoBetweenWorkers) {
  StartWorkers({"alpha,beta", "gamma"});
  ASSERT_EQ(AskAll(*gateway_, Questions("alpha", 2)).size(), 2u);
  for (const auto& worker : workers_) {
    EXPECT_TRUE(SentNothing(*worker)) << "one expert needs nobody else";
  }
  Asking asking({gateway_->generation.get()}, {Mixture()});
  const Answer answer = asking.Join()[0];
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_MIXTURE);
  EXPECT_EQ(answer.route.experts_size(), 3);
  EXPECT_EQ(answer.route.worker(), "w0");
  EXPECT_THAT(answer.route.placement_reason(), HasSubstr("w0 with alpha, beta; w1 with gamma"));
  EXPECT_EQ(answer.text, TextOfOne(Mixture()));
  for (const auto& worker : workers_) {
    EXPECT_TRUE(Eventually([&] { return !SentNothing(*worker); })) << worker->id;
  }
}

TEST_F(GangClusterTest, AKilledMemberIsReplacedAndTheTextStays) {
  StartWorkers({"alpha,beta", "gamma", "gamma"});
  KillOneAndExpectTheSameText({1, 2});
}

TEST_F(GangClusterTest, AKilledLeaderIsReplacedAndTheTextStays) {
  StartWorkers({"alpha,beta", "gamma", "alpha,beta"});
  KillOneAndExpectTheSameText({0, 2});
}

TEST_F(GangClusterTest, AStoppedMemberThatNobodyReplacesIsLeftOutAndTold) {
  StartWorkers({"alpha,beta", "gamma"});
  const MonotonicTime begin = MonotonicNow();
  const Answer answer = AskAndBreak({1}, SIGSTOP)[0];
  std::cout << "stopped member: answer whole after " << absl::FormatDuration(MonotonicNow() - begin) << "\n";
  workers_[1]->process->Signal(SIGCONT);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.token_ids.size(), 160u);
  ASSERT_FALSE(answer.notices.empty());
  EXPECT_EQ(answer.notices.back().kind(), v1::Notice::KIND_MEMBERS_LOST);
  EXPECT_THAT(answer.notices.back().message(), HasSubstr("no worker holds gamma now"));
  // It is back, and a gang is formed again.
  EXPECT_TRUE(gateway_->Ready(2));
  Asking again({gateway_->generation.get()}, {Mixture()});
  EXPECT_TRUE(again.Join()[0].status.ok()) << again.Join()[0].status.error_message();
}

}  // namespace
}  // namespace coterie::cluster
