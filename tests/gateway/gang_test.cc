// A mixture that no worker can hold alone: which workers answer it together, what each is told, and what
// happens when one of them is lost. The workers are fakes: what a gang computes, tests/worker/gang shows.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

class GangTest : public ::testing::Test {
 protected:
  ~GangTest() override { std::filesystem::remove_all(folder_); }

  // Each with two adapter slots, which is one less than the mixture has members.
  void Start(const std::vector<std::vector<std::string>>& serves, uint32_t max_gangs = 8,
             absl::Duration leaders_step = absl::Milliseconds(2)) {
    auto store = StoreWith(folder_, {"algebra", "biology", "chemistry"});
    GatewayOptions options = QuickOptions({});
    options.placement.strict_serves = true;
    options.session.member_wait = absl::Milliseconds(200);
    for (size_t i = 0; i < serves.size(); ++i) {
      workers_.push_back(std::make_unique<FakeWorker>(
          FakeWorker::Options{.worker_id = absl::StrCat("w", i),
                              .step = i == 0 ? leaders_step : absl::Milliseconds(2),
                              .adapter_slots = 2,
                              .max_gangs = max_gangs,
                              .serves = serves[i]}));
      absl::StrAppend(&options.workers, i == 0 ? "" : ",", workers_.back()->address());
    }
    gateway_ = std::make_unique<TestGateway>(std::move(options), true, std::move(store));
    ASSERT_TRUE(gateway_->Ready(workers_.size()));
  }

  static v1::GenerateRequest Request(uint32_t max_tokens = 20) {
    v1::GenerateRequest request = BaseRequest(1, max_tokens);
    request.clear_expert();
    request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_MIXTURE);
    for (const auto& [name, weight] :
         {std::pair("algebra", 0.5f), {"biology", 0.25f}, {"chemistry", 0.25f}}) {
      v1::CollaborationMember* member = request.mutable_collaboration()->add_members();
      member->set_expert(name);
      member->set_weight(weight);
    }
    return request;
  }

  static std::vector<std::string> NamesOf(const v1::Submit& submit) {
    std::vector<std::string> names;
    for (const v1::AdapterUse& use : submit.adapters()) names.push_back(use.name());
    return names;
  }

  // Asks, and does `what` once some tokens have come.
  Answer AskAnd(const std::function<void()>& what) {
    bool done = false;
    return Ask(gateway_->stub.get(), Request(300), [&](const Answer& so_far) {
      if (!done && so_far.token_ids.size() >= 20) what(), done = true;
    });
  }

  void KillTheBusyOne(size_t one, size_t other) {
    killed_ = workers_[one]->live_sequences() > 0 ? one : other;
    workers_[killed_]->Kill();
  }
  void ExpectNothingRuns() {
    for (size_t i = 0; i < workers_.size(); ++i) {
      if (i == killed_) continue;  // it knows of no end any more
      EXPECT_TRUE(Eventually([&] { return workers_[i]->live_sequences() == 0; })) << "w" << i;
    }
  }

  const std::filesystem::path folder_ = FreshFolder();
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::unique_ptr<TestGateway> gateway_;
  size_t killed_ = SIZE_MAX;
};

TEST_F(GangTest, TheWorkersTogetherHoldItAndEachIsToldItsPart) {
  Start({{"algebra", "biology"}, {"chemistry"}});
  const Answer answer = Ask(gateway_->stub.get(), Request());
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text.size(), 20u);
  EXPECT_EQ(answer.route.worker(), "w0");
  EXPECT_EQ(answer.route.experts_size(), 3);
  EXPECT_THAT(answer.route.placement_reason(),
              HasSubstr("several workers together: w0 with algebra, biology; w1 with chemistry"));

  const v1::Submit leader = workers_[0]->last_submit(), follower = workers_[1]->last_submit();
  EXPECT_EQ(NamesOf(leader), (std::vector<std::string>{"algebra", "biology"}));
  EXPECT_EQ(NamesOf(follower), (std::vector<std::string>{"chemistry"}));
  EXPECT_EQ(leader.gang().rank(), 0u);
  EXPECT_EQ(follower.gang().rank(), 1u);
  EXPECT_EQ(leader.gang().group(), follower.gang().group());
  EXPECT_EQ(leader.gang().token(), follower.gang().token());
  EXPECT_EQ(leader.gang().token().size(), 64u);
  ASSERT_EQ(leader.gang().workers_size(), 2);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(leader.gang().workers(i).address(), workers_[static_cast<size_t>(i)]->address());
    EXPECT_EQ(leader.gang().workers(i).name(), absl::StrCat("w", i));
  }
  EXPECT_EQ(leader.gang().workers(1).members(0), 2u);
  ASSERT_EQ(follower.gang().weights_size(), 3);
  EXPECT_FLOAT_EQ(follower.gang().weights(0), 0.5f);
  EXPECT_GT(follower.initial_credit(), 1'000u) << "the leader alone waits for the reader";
  EXPECT_EQ(follower.sampling().seed(), leader.sampling().seed());
  ExpectNothingRuns();
  const Answer again = Ask(gateway_->stub.get(), Request());
  EXPECT_NE(workers_[0]->last_submit().gang().token(), leader.gang().token());
  EXPECT_NE(workers_[0]->last_submit().gang().group(), leader.gang().group());
}

TEST_F(GangTest, OneWorkerThatHoldsAllComesFirst) {
  Start({{"algebra", "biology"}, {"chemistry"}});
  v1::GenerateRequest request = Request();
  request.mutable_collaboration()->mutable_members()->RemoveLast();
  request.mutable_collaboration()->mutable_members(0)->set_weight(0.75f);
  const Answer answer = Ask(gateway_->stub.get(), request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_FALSE(workers_[0]->last_submit().has_gang());
  EXPECT_EQ(workers_[1]->submits(), 0u);
}

TEST_F(GangTest, WorkersThatAnswerNothingTogetherAreNotAsked) {
  Start({{}, {}}, /*max_gangs=*/0);
  const Answer answer = Ask(gateway_->stub.get(), Request());
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("3 adapters and no worker has more than 2"));
  EXPECT_EQ(workers_[0]->submits() + workers_[1]->submits(), 0u);
}

TEST_F(GangTest, AMemberWithoutAHomeIsAClearEnd) {
  Start({{"algebra"}, {"biology"}});
  const Answer answer = Ask(gateway_->stub.get(), Request());
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("does not serve this expert"));
  EXPECT_EQ(answer.text, "") << "nobody asked for the others alone";
}

TEST_F(GangTest, WhereAnotherWorkerHasTheMembersTheTextGoesOn) {
  Start({{"algebra", "biology"}, {"chemistry"}, {"chemistry"}});
  const std::string text = Ask(gateway_->stub.get(), Request(300)).text;
  const Answer answer = AskAnd([&] { KillTheBusyOne(1, 2); });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, text);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  ExpectNothingRuns();
}

TEST_F(GangTest, WhereNoWorkerHasThemItGoesOnWithoutAndSaysSo) {
  Start({{"algebra", "biology"}, {"chemistry"}});
  const Answer answer = AskAnd([&] { workers_[1]->Kill(); });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text.size(), 300u);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_MEMBERS_LOST);
  EXPECT_THAT(answer.notices[0].message(), HasSubstr("no worker holds chemistry now"));
  const v1::Submit rest = workers_[0]->last_submit();
  EXPECT_FALSE(rest.has_gang());
  EXPECT_EQ(NamesOf(rest), (std::vector<std::string>{"algebra", "biology"}));
  EXPECT_FLOAT_EQ(rest.mixture(0).weight(), 2 / 3.0f);
  EXPECT_FLOAT_EQ(rest.mixture(1).weight(), 1 / 3.0f);
  EXPECT_GE(rest.resume_ids_size(), 20);
}

TEST_F(GangTest, ALostLeaderIsNoMoreThanALostMember) {
  Start({{"algebra", "biology"}, {"chemistry"}, {"algebra", "biology"}});
  const Answer answer = AskAnd([&] { KillTheBusyOne(0, 2); });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text.size(), 300u);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  EXPECT_TRUE(workers_[1]->last_submit().has_gang());
  ExpectNothingRuns();
}

// The worker that the leader names is left out, and the leader is not.
TEST_F(GangTest, TheWorkerThatTheLeaderNamesIsLeftOut) {
  Start({{"algebra", "biology"}, {"chemistry"}, {"chemistry"}});
  std::string named;
  const Answer answer = AskAnd([&] {
    named = workers_[1]->live_sequences() > 0 ? "w1" : "w2";
    workers_[0]->LoseMember(named);
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.finish.worker(), "w0");
  EXPECT_EQ(workers_[0]->last_submit().gang().workers(1).name(), named == "w1" ? "w2" : "w1");
}

TEST_F(GangTest, AFollowersErrorIsTheAnswersAndABrokenAdapterIsLookedForElsewhere) {
  // A leader has no token before all members have told it their rows.
  Start({{"algebra", "biology"}, {"chemistry"}, {"chemistry"}}, 8, absl::Milliseconds(100));
  const Digest chemistry = Digest::FromBytes([&] {
                             Ask(gateway_->stub.get(), Request(2));
                             const size_t i = workers_[1]->submits() > 0 ? 1 : 2;
                             return workers_[i]->last_submit().adapters(0).digest();
                           }())
                               .value();
  workers_[1]->BreakAdapter(chemistry, grpc::StatusCode::DATA_LOSS);
  const Answer elsewhere = Ask(gateway_->stub.get(), Request(2));
  ASSERT_TRUE(elsewhere.status.ok()) << elsewhere.status.error_message();
  workers_[2]->BreakAdapter(chemistry, grpc::StatusCode::DATA_LOSS);
  const Answer nowhere = Ask(gateway_->stub.get(), Request(2));
  EXPECT_EQ(nowhere.status.error_code(), grpc::StatusCode::DATA_LOSS) << nowhere.status.error_message();
  ExpectNothingRuns();
}

TEST_F(GangTest, CancelledItIsCancelledEverywhere) {
  Start({{"algebra"}, {"biology"}, {"chemistry"}});
  grpc::ClientContext context;
  auto call = gateway_->stub->Generate(&context, Request(100'000));
  v1::GenerateResponse response;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(call->Read(&response));
  for (const auto& worker : workers_) EXPECT_EQ(worker->live_sequences(), 1u);
  context.TryCancel();
  while (call->Read(&response)) {
  }
  ExpectNothingRuns();
}

}  // namespace
}  // namespace coterie::gateway::testing
