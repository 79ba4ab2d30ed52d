// Long answers while workers are restarted and killed over and over: the text is what it would have been.
#include <signal.h>

#include <vector>

#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

using ::testing::HasSubstr;

class RestartTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    UseLongContext();
  }

  void Start(int n_workers, const std::vector<std::string>& worker_flags = {},
             const std::vector<std::string>& gateway_flags = {}) {
    worker_flags_ = worker_flags;
    std::vector<std::string> addresses;
    for (int i = 0; i < n_workers; ++i) {
      workers_.push_back(StartWorker("w" + std::to_string(i), worker_flags_));
      addresses.push_back(workers_.back()->address());
    }
    gateway_ = StartGateway(addresses, gateway_flags);
  }
  // A new process in the place of the worker that ended.
  void StartAgain(size_t i) {
    workers_[i] = StartWorker(workers_[i]->id, worker_flags_, workers_[i]->address());
  }
  static std::vector<v1::GenerateRequest> LongQuestions(size_t n, uint32_t n_tokens) {
    std::vector<v1::GenerateRequest> requests = Questions("base", n, n_tokens);
    for (v1::GenerateRequest& request : requests) request.mutable_sampling()->set_ignore_eos(true);
    return requests;
  }

  std::vector<std::string> worker_flags_;
  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::unique_ptr<GatewayProcess> gateway_;
};

TEST_F(RestartTest, AnswersOutliveARollingRestartOfTwoWorkersFiveTimes) {
  // Not one of the hand-overs may count as a loss.
  Start(2, {"--drain-timeout=200ms"}, {"--max-moves=0"});
  const std::vector<v1::GenerateRequest> requests = LongQuestions(10, 1200);
  const std::vector<std::string> expected = AskAll(*gateway_, requests);

  Asking asking({gateway_->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(20));
  for (int restart = 0; restart < 10; ++restart) {
    const size_t i = restart % 2;
    workers_[i]->process->Signal(SIGTERM);
    EXPECT_GE(workers_[i]->process->Wait(), 0);
    StartAgain(i);
    ASSERT_TRUE(gateway_->Ready(2));
  }
  const std::deque<Answer>& answers = asking.Join();
  EXPECT_EQ(Texts(answers), expected);
  size_t most_moves = 0;
  for (const Answer& answer : answers) most_moves = std::max(most_moves, answer.notices.size());
  EXPECT_GT(most_moves, 0u);
}

TEST_F(RestartTest, AnswersOutliveAKillEveryMomentWhileTheyGetOn) {
  Start(3);
  const std::vector<v1::GenerateRequest> requests = LongQuestions(12, 1200);
  const std::vector<std::string> expected = AskAll(*gateway_, requests);

  Asking asking({gateway_->generation.get()}, requests);
  size_t n_kills = 0;
  for (; n_kills < 12 && asking.ended() < requests.size(); ++n_kills) {
    ASSERT_TRUE(asking.WaitForTokens(20 + 60 * n_kills));
    const size_t i = n_kills % workers_.size();
    workers_[i]->process->Kill();
    StartAgain(i);
    ASSERT_TRUE(gateway_->Ready(3));
  }
  EXPECT_GT(n_kills, 6u);
  EXPECT_EQ(Texts(asking.Join()), expected);
}

TEST_F(RestartTest, AKilledWorkersAnswersMoveWithoutWaitingForItsGraceTime) {
  workers_.push_back(StartWorker("w0", {"--reattach-grace=10m"}));
  workers_.push_back(StartWorker("w1", {"--reattach-grace=10m"}));
  // Were the grace time waited for, the answers would come too late.
  gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()},
                          {"--reattach-grace=10m", "--max-time=60s"});
  const std::vector<v1::GenerateRequest> requests = LongQuestions(6, 400);
  const std::vector<std::string> expected = AskAll(*gateway_, requests);
  Asking asking({gateway_->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(20));
  workers_[0]->process->Kill();
  EXPECT_EQ(Texts(asking.Join()), expected);
}

TEST_F(RestartTest, AnAdapterThatIsGoneCostsItsExpertAndNoRoutedQuestion) {
  Start(2);
  v1::PublishExpertResponse one, two;
  const v1::GenerateRequest question = Question("auto", 1, 40);
  const std::vector<float> vector = Embed(*gateway_, question.chat().messages(0).content());
  ASSERT_TRUE(Publish(*gateway_, {.name = "one", .prototype = vector}, &one).ok());
  ASSERT_TRUE(
      Publish(*gateway_, {.name = "two", .adapter = "llama-all-linear", .prototype = vector}, &two).ok());
  const std::string by_two = AskAll(*gateway_, {Question("two", 1, 40)})[0];
  std::filesystem::remove_all(store() / "objects" / one.expert().digest());

  const Answer answer = gateway::testing::Ask(gateway_->generation.get(), question);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.route.experts_size(), 1);
  EXPECT_EQ(answer.route.experts(0).name(), "two");
  EXPECT_THAT(answer.route.reason(), HasSubstr("no worker could load one ("));
  EXPECT_EQ(answer.text, by_two);
  EXPECT_EQ(MetricSum(gateway_->Metrics(), "coterie_expert_fallbacks_total"), 1);
  const Answer named = gateway::testing::Ask(gateway_->generation.get(), Question("one", 1, 40));
  EXPECT_EQ(named.status.error_code(), grpc::StatusCode::NOT_FOUND) << named.status.error_message();
}

TEST_F(RestartTest, InAFleetOfUnequalWorkersAnswersAreAsLongAsTheLargestAllows) {
  workers_.push_back(StartWorker("small", {"--kv-tokens=128"}));
  workers_.push_back(StartWorker("large", {"--kv-tokens=1024"}));
  gateway_ = StartGateway({workers_[0]->address(), workers_[1]->address()}, {"--worker-wait=10m"});
  const Answer fits = gateway::testing::Ask(gateway_->generation.get(), LongQuestions(1, 400)[0]);
  ASSERT_TRUE(fits.status.ok()) << fits.status.error_message();
  EXPECT_EQ(fits.finish.worker(), "large");
  EXPECT_EQ(fits.token_ids.size(), 400u);
  const Answer longer = gateway::testing::Ask(gateway_->generation.get(), LongQuestions(1, 50'000)[0]);
  ASSERT_TRUE(longer.status.ok()) << longer.status.error_message();
  EXPECT_EQ(longer.finish.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(longer.token_ids.size() + longer.finish.usage().prompt_tokens(), 1024u);
  v1::GenerateRequest huge = Question("base", 1, 10);
  for (int i = 0; i < 1100; ++i) huge.mutable_chat()->mutable_messages(0)->mutable_content()->append(" word");
  const Answer refused = gateway::testing::Ask(gateway_->generation.get(), huge);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("at most 1024 tokens of prompt and answer together"));
}

}  // namespace
}  // namespace coterie::cluster
