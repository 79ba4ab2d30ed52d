// Several experts on one question: what the worker is asked for, what the client is told, what is refused.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

class CollaborationTest : public ::testing::Test {
 protected:
  ~CollaborationTest() override { std::filesystem::remove_all(folder_); }

  void Start(FakeWorker::Options first = {}, std::optional<FakeWorker::Options> second = std::nullopt,
             GatewayOptions options = QuickOptions({})) {
    auto store = StoreWith(folder_, {"algebra", "biology", "chemistry"});
    for (const char* name : {"algebra", "biology", "chemistry"}) adapters_[name] = AdapterOf(*store, name);
    workers_.push_back(std::make_unique<FakeWorker>(first));
    if (second) workers_.push_back(std::make_unique<FakeWorker>(*second));
    for (const auto& worker : workers_) {
      absl::StrAppend(&options.workers, options.workers.empty() ? "" : ",", worker->address());
    }
    gateway_ = std::make_unique<TestGateway>(std::move(options), true, std::move(store));
    ASSERT_TRUE(gateway_->Ready(workers_.size()));
  }

  static v1::GenerateRequest Request(v1::CollaborationMode mode,
                                     std::vector<std::pair<std::string, std::optional<float>>> members) {
    v1::GenerateRequest request = BaseRequest(1, 20);
    request.clear_expert();
    request.mutable_collaboration()->set_mode(mode);
    for (const auto& [expert, weight] : members) {
      v1::CollaborationMember* member = request.mutable_collaboration()->add_members();
      member->set_expert(expert);
      if (weight) member->set_weight(*weight);
    }
    return request;
  }
  static v1::GenerateRequest Mixture(std::vector<std::pair<std::string, std::optional<float>>> members) {
    return Request(v1::COLLABORATION_MODE_MIXTURE, std::move(members));
  }
  Answer Send(const v1::GenerateRequest& request) { return Ask(gateway_->stub.get(), request); }
  void ExpectRefused(const v1::GenerateRequest& request, const std::string& message,
                     grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT) {
    const Answer answer = Send(request);
    EXPECT_EQ(answer.status.error_code(), code) << message;
    EXPECT_THAT(answer.status.error_message(), HasSubstr(message));
  }

  const std::filesystem::path folder_ = FreshFolder();
  std::vector<std::unique_ptr<FakeWorker>> workers_;
  std::map<std::string, Digest> adapters_;
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(CollaborationTest, TheFirstMessageNamesModeMembersAndWeightsAndTheWorkerGetsThem) {
  Start();
  const Answer answer = Send(Mixture({{"biology", 0.6f}, {"algebra", 0.4f}}));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.route_came_first);
  EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_MIXTURE);
  ASSERT_EQ(answer.route.experts_size(), 2);
  EXPECT_EQ(answer.route.experts(0).name(), "biology");
  EXPECT_EQ(answer.route.experts(0).digest(), adapters_["biology"].ToHex());
  EXPECT_FLOAT_EQ(answer.route.experts(0).weight(), 19 / 32.0f);
  EXPECT_EQ(answer.route.experts(1).name(), "algebra");
  EXPECT_FLOAT_EQ(answer.route.experts(1).weight(), 13 / 32.0f);
  EXPECT_EQ(answer.route.policy(), "by_name");
  EXPECT_EQ(answer.route.reason(), "asked for by name, as a mixture");

  const v1::Submit submit = workers_[0]->last_submit();
  ASSERT_EQ(submit.adapters_size(), 2);
  EXPECT_EQ(submit.adapters(0).digest(), adapters_["biology"].ToBytes());
  EXPECT_EQ(submit.adapters(0).weight(), 1) << "a member is its expert in full";
  EXPECT_EQ(submit.adapters(1).weight(), 1);
  ASSERT_EQ(submit.mixture_size(), 2);
  EXPECT_EQ(submit.mixture(0).adapters(), 1u);
  EXPECT_FLOAT_EQ(submit.mixture(0).weight(), 19 / 32.0f);
  EXPECT_FLOAT_EQ(submit.mixture(1).weight(), 13 / 32.0f);
}

TEST_F(CollaborationTest, ABlendIsOneRowUnderWeightedAdapters) {
  Start();
  const Answer answer = Send(Request(v1::COLLABORATION_MODE_BLEND, {{"algebra", 0.25f}, {"biology", 0.75f}}));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_BLEND);
  const v1::Submit submit = workers_[0]->last_submit();
  EXPECT_EQ(submit.mixture_size(), 0);
  ASSERT_EQ(submit.adapters_size(), 2);
  EXPECT_FLOAT_EQ(submit.adapters(0).weight(), 0.25f);
  EXPECT_FLOAT_EQ(submit.adapters(1).weight(), 0.75f);
}

TEST_F(CollaborationTest, AGateIsNamedInTheFirstMessageAndTheWorkerGetsIt) {
  Start();
  v1::GenerateRequest request =
      Request(v1::COLLABORATION_MODE_GATED, {{"algebra", {}}, {"biology", {}}, {"chemistry", {}}});
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  request.mutable_collaboration()->set_top_k(2);
  const Answer answer = Send(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.route_came_first);
  EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_GATED);
  EXPECT_EQ(answer.route.gate(), v1::GATE_KIND_ARROW);
  EXPECT_EQ(answer.route.top_k(), 2u);
  EXPECT_EQ(answer.route.reason(),
            "asked for by name, under a gate; gate arrow, 2 of 3 members for each token and module");
  ASSERT_EQ(answer.route.experts_size(), 3);
  for (const v1::ExpertScore& expert : answer.route.experts()) EXPECT_FLOAT_EQ(expert.weight(), 1 / 3.0f);
  const v1::Submit submit = workers_[0]->last_submit();
  EXPECT_EQ(submit.mixture_size(), 0);
  ASSERT_EQ(submit.adapters_size(), 3);
  for (const v1::AdapterUse& use : submit.adapters()) EXPECT_EQ(use.weight(), 1);
  EXPECT_EQ(submit.gate().kind(), v1::GATE_KIND_ARROW);
  EXPECT_EQ(submit.gate().top_k(), 2u);
  EXPECT_EQ(submit.gate().seed(), 0u) << "only noise has one: prefixes would not be shared";

  // Gateless unless it says so, and all members; noise comes from the request's seed.
  request.mutable_collaboration()->clear_gate();
  request.mutable_collaboration()->clear_top_k();
  EXPECT_EQ(Send(request).route.gate(), v1::GATE_KIND_GATELESS);
  EXPECT_EQ(workers_[0]->last_submit().gate().top_k(), 3u);
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_NOISY);
  request.mutable_sampling()->set_seed(uint64_t{7} << 40);
  EXPECT_EQ(Send(request).route.top_k(), 3u);
  EXPECT_EQ(workers_[0]->last_submit().gate().seed(), uint64_t{7} << 40);
}

TEST_F(CollaborationTest, AGateOverOneMemberIsThatExpert) {
  Start();
  v1::GenerateRequest request = Request(v1::COLLABORATION_MODE_GATED, {{"algebra", {}}});
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  const Answer answer = Send(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_UNSPECIFIED);
  EXPECT_EQ(answer.route.gate(), v1::GATE_KIND_UNSPECIFIED);
  EXPECT_FALSE(workers_[0]->last_submit().has_gate());
}

TEST_F(CollaborationTest, TheRouterChoosesTheMembersOfAGate) {
  Start();
  v1::GenerateRequest request = Request(v1::COLLABORATION_MODE_GATED, {});
  request.set_prompt("a question");
  request.mutable_collaboration()->set_k(3);
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  request.mutable_collaboration()->set_top_k(2);
  const Answer answer = Send(request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.policy(), "top_k");
  const v1::Submit submit = workers_[0]->last_submit();
  EXPECT_EQ(submit.adapters_size(), answer.route.experts_size());
  EXPECT_EQ(submit.has_gate(), answer.route.experts_size() > 1);
  if (answer.route.experts_size() > 1) {
    EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_GATED);
    EXPECT_EQ(submit.gate().top_k(), 2u);
    EXPECT_EQ(submit.adapters(0).weight(), 1);
  }
}

TEST_F(CollaborationTest, GatesThatCannotBeAreRefusedByName) {
  Start();
  const auto gated = [](v1::GateKind gate, std::optional<uint32_t> top_k,
                        std::optional<float> weight = std::nullopt) {
    v1::GenerateRequest request =
        Request(v1::COLLABORATION_MODE_GATED, {{"algebra", weight}, {"biology", weight}});
    request.mutable_collaboration()->set_gate(gate);
    if (top_k) request.mutable_collaboration()->set_top_k(*top_k);
    return request;
  };
  ExpectRefused(gated(static_cast<v1::GateKind>(9), {}),
                "collaboration.gate is \"9\", which is none of gateless, noisy, arrow");
  ExpectRefused(gated(v1::GATE_KIND_ARROW, 0), "collaboration.top_k is 0; it must be 1 to 2");
  ExpectRefused(gated(v1::GATE_KIND_NOISY, 3), "collaboration.top_k is 3; it must be 1 to 2");
  ExpectRefused(gated(v1::GATE_KIND_GATELESS, 1),
                "collaboration.top_k is 1; the gate gateless uses all 2 members");
  for (const float weight : {0.5f, 0.0f, NAN}) {
    ExpectRefused(gated(v1::GATE_KIND_ARROW, {}, weight), "collaboration.members[0].weight is ");
  }
  v1::GenerateRequest mixture = Mixture({{"algebra", {}}, {"biology", {}}});
  mixture.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  ExpectRefused(mixture, "collaboration.gate is set; only the mode gated has a gate, not mixture");
  v1::GenerateRequest blend = Request(v1::COLLABORATION_MODE_BLEND, {{"algebra", {}}, {"biology", {}}});
  blend.mutable_collaboration()->set_top_k(1);
  ExpectRefused(blend, "collaboration.top_k is set; only the mode gated has a gate, not blend");
  v1::GenerateRequest few = Request(v1::COLLABORATION_MODE_GATED, {});
  few.mutable_collaboration()->set_k(2);
  few.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  few.mutable_collaboration()->set_top_k(3);
  ExpectRefused(few, "collaboration.top_k is 3; it must be 1 to 2");
  EXPECT_EQ(workers_[0]->submits(), 0u);
}

// One that has no gates would blend.
TEST_F(CollaborationTest, OnlyAWorkerWithTheGateIsAsked) {
  Start({.worker_id = "gpu", .gates = {}},
        FakeWorker::Options{.worker_id = "cpu", .gates = {v1::GATE_KIND_GATELESS, v1::GATE_KIND_NOISY}});
  v1::GenerateRequest request = Request(v1::COLLABORATION_MODE_GATED, {{"algebra", {}}, {"biology", {}}});
  for (int i = 0; i < 5; ++i) {
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(i));
    const Answer answer = Send(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.worker(), "cpu");
  }
  EXPECT_EQ(workers_[0]->submits(), 0u);
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  ExpectRefused(request,
                "the request has the gate arrow and no worker has it: workers on CPUs do, where they were "
                "started with --arrow-gates",
                grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(CollaborationTest, AGatedAnswerWhoseWorkerIsLostGoesOnUnderTheSameGate) {
  Start({.worker_id = "w0"}, FakeWorker::Options{.worker_id = "w1"});
  v1::GenerateRequest request = Request(v1::COLLABORATION_MODE_GATED, {{"algebra", {}}, {"biology", {}}});
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_NOISY);
  request.mutable_collaboration()->set_top_k(1);
  request.mutable_sampling()->set_max_tokens(200);
  request.mutable_sampling()->set_seed(5);
  bool killed = false;
  const Answer answer = Ask(gateway_->stub.get(), request, [&](const Answer& so_far) {
    if (killed || so_far.token_ids.size() < 20) return;
    killed = true;
    workers_[so_far.route.worker() == "w0" ? 0 : 1]->Kill();
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  const v1::Submit resumed = workers_[answer.finish.worker() == "w0" ? 0 : 1]->last_submit();
  EXPECT_GE(resumed.resume_ids_size(), 20);
  EXPECT_EQ(resumed.gate().kind(), v1::GATE_KIND_NOISY);
  EXPECT_EQ(resumed.gate().top_k(), 1u);
  EXPECT_EQ(resumed.gate().seed(), 5u);
}

TEST_F(CollaborationTest, WithoutWeightsTheyAreEqualAndALoneMemberIsThatExpert) {
  Start();
  const Answer equal = Send(Mixture({{"algebra", {}}, {"biology", {}}}));
  ASSERT_TRUE(equal.status.ok()) << equal.status.error_message();
  EXPECT_FLOAT_EQ(equal.route.experts(0).weight(), 0.5f);
  EXPECT_FLOAT_EQ(equal.route.experts(1).weight(), 0.5f);
  // 0.01 is below 1/64: it would change nothing, and is dropped.
  for (const auto& request : {Mixture({{"algebra", 1.0f}}), Mixture({{"algebra", {}}}),
                              Mixture({{"algebra", 0.99f}, {"biology", 0.01f}})}) {
    const Answer lone = Send(request);
    ASSERT_TRUE(lone.status.ok()) << lone.status.error_message();
    EXPECT_EQ(lone.route.mode(), v1::COLLABORATION_MODE_UNSPECIFIED);
    ASSERT_EQ(lone.route.experts_size(), 1);
    EXPECT_FLOAT_EQ(lone.route.experts(0).weight(), 1);
    const v1::Submit submit = workers_[0]->last_submit();
    EXPECT_EQ(submit.mixture_size(), 0);
    ASSERT_EQ(submit.adapters_size(), 1);
    EXPECT_EQ(submit.adapters(0).weight(), 1);
    v1::GenerateRequest plain = BaseRequest(1, 20);
    plain.set_expert("algebra");
    EXPECT_EQ(Send(plain).text, lone.text);
  }
}

TEST_F(CollaborationTest, TheRouterChoosesKOfThem) {
  Start();
  for (const auto mode : {v1::COLLABORATION_MODE_MIXTURE, v1::COLLABORATION_MODE_BLEND}) {
    v1::GenerateRequest request = Request(mode, {});
    request.set_prompt("a question");
    request.mutable_collaboration()->set_k(3);
    const Answer answer = Send(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    const bool mixture = mode == v1::COLLABORATION_MODE_MIXTURE;
    EXPECT_EQ(answer.route.policy(), mixture ? "mixture" : "top_k");
    ASSERT_GE(answer.route.experts_size(), 1);
    EXPECT_EQ(answer.route.experts(0).name(), "algebra");
    const v1::Submit submit = workers_[0]->last_submit();
    EXPECT_EQ(submit.adapters_size(), answer.route.experts_size());
    EXPECT_EQ(submit.mixture_size(), mixture && answer.route.experts_size() > 1 ? submit.adapters_size() : 0);
    EXPECT_EQ(answer.route.mode(),
              answer.route.experts_size() > 1 ? mode : v1::COLLABORATION_MODE_UNSPECIFIED);
  }
}

TEST_F(CollaborationTest, RouteDecidesAsGenerateWould) {
  Start();
  v1::RouteRequest request;
  request.set_prompt("tell me");
  *request.mutable_collaboration() = Mixture({{"algebra", 0.5f}, {"chemistry", 0.5f}}).collaboration();
  grpc::ClientContext context;
  v1::RouteResponse response;
  const grpc::Status status = gateway_->stub->Route(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.decision().mode(), v1::COLLABORATION_MODE_MIXTURE);
  EXPECT_EQ(response.decision().experts_size(), 2);
}

TEST_F(CollaborationTest, WhatCannotBeIsRefusedByName) {
  Start();
  ExpectRefused(Mixture({{"algebra", 0.5f}, {"biology", 0.25f}}),
                "collaboration.members: their weights sum to 0.75; they must sum to 1");
  ExpectRefused(Mixture({{"algebra", 0.7f}, {"biology", 0.7f}}), "their weights sum to 1.4");
  ExpectRefused(Mixture({{"algebra", 1.0f}, {"biology", 0.0f}}),
                "collaboration.members[1].weight is 0; it must be above 0");
  ExpectRefused(Mixture({{"algebra", 1.5f}, {"biology", -0.5f}}), "collaboration.members[1].weight is -0.5");
  ExpectRefused(Mixture({{"algebra", NAN}, {"biology", 0.5f}}), "collaboration.members[0].weight is nan");
  ExpectRefused(Mixture({{"algebra", INFINITY}}), "collaboration.members[0].weight is inf");
  ExpectRefused(Mixture({{"algebra", 0.5f}, {"biology", {}}}),
                "collaboration.members[1].weight is not set unlike that of the members before");
  ExpectRefused(Mixture({{"algebra", 0.5f}, {"astrology", 0.5f}}), "astrology", grpc::StatusCode::NOT_FOUND);
  ExpectRefused(Mixture({{"algebra", 0.5f}, {"algebra", 0.5f}}),
                "collaboration.members[1].expert is \"algebra\", which is a member already");
  ExpectRefused(Mixture({{"algebra", 0.5f}, {"algebra@" + adapters_["algebra"].ToHex(), 0.5f}}),
                "is the same version");
  ExpectRefused(Mixture({{"base", 0.5f}, {"algebra", 0.5f}}), "collaboration.members[0].expert is \"base\"");
  ExpectRefused(Mixture({{"auto", 1.0f}}), "collaboration.members[0].expert is \"auto\"");
  ExpectRefused(Mixture({{"", 1.0f}}), "collaboration.members[0].expert is empty");
  ExpectRefused(Mixture({{"No Name", 1.0f}}), "collaboration.members[0].expert");
  ExpectRefused(Mixture({}), "collaboration has neither members nor k");
  ExpectRefused(Mixture(std::vector<std::pair<std::string, std::optional<float>>>(17, {"algebra", {}})),
                "collaboration.members has 17 entries; at most 16");
  v1::GenerateRequest both = Mixture({{"algebra", 1.0f}});
  both.mutable_collaboration()->set_k(2);
  ExpectRefused(both, "collaboration has both members and k");
  v1::GenerateRequest many = Mixture({});
  many.mutable_collaboration()->set_k(17);
  ExpectRefused(many, "collaboration.k is 17; at most 16");
  v1::GenerateRequest named = Mixture({{"algebra", 1.0f}});
  named.set_expert("biology");
  ExpectRefused(named, "expert is \"biology\" beside a collaboration");
  v1::GenerateRequest policy = Mixture({{"algebra", 1.0f}});
  policy.mutable_routing()->set_policy("nearest");
  ExpectRefused(policy, "routing.policy is \"nearest\" beside a collaboration");
  v1::GenerateRequest closed = Mixture({{"algebra", 0.5f}, {"biology", 0.5f}});
  closed.mutable_routing()->add_allowed_experts("algebra");
  ExpectRefused(closed, "biology", grpc::StatusCode::PERMISSION_DENIED);
  ExpectRefused(Request(v1::COLLABORATION_MODE_UNSPECIFIED, {{"algebra", 1.0f}}),
                "collaboration.mode is not set");
  ExpectRefused(Request(static_cast<v1::CollaborationMode>(99), {{"algebra", 1.0f}}),
                "collaboration.mode is \"99\", which is none of mixture, blend, gated");
  for (const auto& [mode, name] :
       {std::pair(v1::COLLABORATION_MODE_LAYERS, "layers"), std::pair(v1::COLLABORATION_MODE_PLAN, "plan"),
        std::pair(v1::COLLABORATION_MODE_DEFER, "defer")}) {
    ExpectRefused(Request(mode, {{"algebra", 1.0f}}),
                  absl::StrCat("collaboration.mode is ", name, ", which is not built yet"),
                  grpc::StatusCode::UNIMPLEMENTED);
  }
  EXPECT_EQ(workers_[0]->submits(), 0u);
}

// An older worker would blend what it was to mix.
TEST_F(CollaborationTest, OnlyAWorkerThatMixesSoManyIsAsked) {
  Start({.worker_id = "old", .max_mixture_members = 0},
        FakeWorker::Options{.worker_id = "new", .max_mixture_members = 2});
  for (int i = 0; i < 5; ++i) {
    v1::GenerateRequest request = Mixture({{"algebra", 0.5f}, {"biology", 0.5f}});
    request.mutable_sampling()->set_seed(static_cast<uint64_t>(i));
    const Answer answer = Send(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.worker(), "new");
  }
  EXPECT_EQ(workers_[0]->submits(), 0u);
  ExpectRefused(Mixture({{"algebra", 0.5f}, {"biology", 0.25f}, {"chemistry", 0.25f}}),
                "the request mixes 3 experts and no worker mixes more than 2; ask for fewer",
                grpc::StatusCode::FAILED_PRECONDITION);
}

TEST_F(CollaborationTest, AMemberThatNoWorkerCanLoadEndsItByNameAndIsNotReplaced) {
  Start();
  workers_[0]->BreakAdapter(adapters_["biology"], grpc::StatusCode::DATA_LOSS);
  const Answer answer = Send(Mixture({{"algebra", 0.5f}, {"biology", 0.5f}}));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(answer.text, "");
}

TEST_F(CollaborationTest, AMixtureWhoseWorkerIsLostGoesOnElsewhereAsOne) {
  Start({.worker_id = "w0"}, FakeWorker::Options{.worker_id = "w1"});
  v1::GenerateRequest request = Mixture({{"algebra", 0.5f}, {"biology", 0.5f}});
  request.mutable_sampling()->set_max_tokens(200);
  const std::string expected = Send(request).text;
  bool killed = false;
  const Answer answer = Ask(gateway_->stub.get(), request, [&](const Answer& so_far) {
    if (killed || so_far.token_ids.size() < 20) return;
    killed = true;
    workers_[so_far.route.worker() == "w0" ? 0 : 1]->Kill();
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, expected);
  ASSERT_EQ(answer.notices.size(), 1u);
  EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
  const v1::Submit resumed = workers_[answer.finish.worker() == "w0" ? 0 : 1]->last_submit();
  EXPECT_GE(resumed.resume_ids_size(), 20);
  EXPECT_EQ(resumed.mixture_size(), 2);
  EXPECT_EQ(resumed.adapters_size(), 2);
}

}  // namespace
}  // namespace coterie::gateway::testing
