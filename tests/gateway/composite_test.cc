// Experts that are made of others: a request for one, or a routing decision for one, is answered by its
// members.
#include "model/store/composite.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

class CompositeExpertTest : public ::testing::Test {
 protected:
  ~CompositeExpertTest() override { std::filesystem::remove_all(folder_); }

  // "zoology" is made of algebra and biology.
  void Start(FakeWorker::Options worker = {}, const std::string& kind = "mixture") {
    auto store = StoreWith(folder_, {"algebra", "biology", "chemistry"});
    store_ = store.get();
    for (const char* name : {"algebra", "biology", "chemistry"}) adapters_[name] = AdapterOf(*store, name);
    zoology_ = PublishZoology("1", kind, "{expert: biology, weight: 0.6}, {expert: algebra, weight: 0.4}");
    worker_ = std::make_unique<FakeWorker>(worker);
    GatewayOptions options = QuickOptions({worker_->address()});
    options.catalogue_poll = absl::Milliseconds(20);
    // Prototypes at right angles: at the default none but the nearest would weigh enough to be chosen.
    options.routing.temperature = 4;
    gateway_ = std::make_unique<TestGateway>(std::move(options), true, std::move(store));
    ASSERT_TRUE(gateway_->Ready(1));
  }
  Digest PublishZoology(const std::string& version, const std::string& kind, const std::string& members,
                        std::optional<double> share = std::nullopt) {
    const auto source = folder_ / ("zoology" + version);
    std::filesystem::create_directories(source);
    std::ofstream(source / kCardFile)
        << "name: zoology\nversion: \"" << version << "\"\ndescription: animals\nkind: " << kind
        << "\nmembers: [" << members << "]\ntags: [animals]\n";
    const std::vector<float> prototype = FakeEmbedder::VectorOf("zoology");
    std::ofstream(source / kPrototypesFile, std::ios::binary)
        << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
    const auto published = store_->Publish(source, share);
    EXPECT_TRUE(published.ok()) << published.status();
    return published.ok() ? published->expert.digest : Digest();
  }
  static v1::GenerateRequest Request(const std::string& expert, const std::string& prompt = "a question") {
    v1::GenerateRequest request = BaseRequest(1, 20);
    request.set_expert(expert);
    request.set_prompt(prompt);
    return request;
  }
  Answer Send(const v1::GenerateRequest& request) { return Ask(gateway_->stub.get(), request); }

  const std::filesystem::path folder_ = FreshFolder();
  std::map<std::string, Digest> adapters_;
  Digest zoology_;
  std::unique_ptr<FakeWorker> worker_;
  std::unique_ptr<TestGateway> gateway_;
  ExpertStore* store_ = nullptr;  // the gateway's
};

TEST_F(CompositeExpertTest, ItsNameAndItsDigestMeanTheMembersThatWerePinned) {
  Start();
  for (const std::string& expert : {std::string("zoology"), "zoology@" + zoology_.ToHex().substr(0, 12)}) {
    const Answer answer = Send(Request(expert));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_MIXTURE);
    EXPECT_EQ(answer.route.composite().name(), "zoology");
    EXPECT_EQ(answer.route.composite().digest(), zoology_.ToHex());
    ASSERT_EQ(answer.route.experts_size(), 2);
    EXPECT_EQ(answer.route.experts(0).name(), "biology");
    EXPECT_EQ(answer.route.experts(0).digest(), adapters_["biology"].ToHex());
    EXPECT_FLOAT_EQ(answer.route.experts(0).weight(), 19 / 32.0f);
    EXPECT_THAT(answer.route.reason(), HasSubstr("zoology is a mixture of 0.59 biology + 0.41 algebra"));
    const v1::Submit submit = worker_->last_submit();
    ASSERT_EQ(submit.adapters_size(), 2);
    EXPECT_EQ(submit.adapters(0).digest(), adapters_["biology"].ToBytes());
    EXPECT_EQ(submit.adapters(0).weight(), 1);
    ASSERT_EQ(submit.mixture_size(), 2);
    EXPECT_FLOAT_EQ(submit.mixture(1).weight(), 13 / 32.0f);
  }
  // The same as the collaboration that names them.
  v1::GenerateRequest by_hand = Request("");
  by_hand.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_MIXTURE);
  for (const auto& [name, weight] : {std::pair("biology", 0.6f), std::pair("algebra", 0.4f)}) {
    v1::CollaborationMember* member = by_hand.mutable_collaboration()->add_members();
    member->set_expert(name);
    member->set_weight(weight);
  }
  EXPECT_EQ(Send(by_hand).text, Send(Request("zoology")).text);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "zoology"), 3);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "biology"), 1);
}

TEST_F(CompositeExpertTest, ABlendIsOneRow) {
  Start({}, "blend");
  const Answer answer = Send(Request("zoology"));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.mode(), v1::COLLABORATION_MODE_BLEND);
  const v1::Submit submit = worker_->last_submit();
  EXPECT_EQ(submit.mixture_size(), 0);
  ASSERT_EQ(submit.adapters_size(), 2);
  EXPECT_FLOAT_EQ(submit.adapters(0).weight(), 19 / 32.0f);
}

TEST_F(CompositeExpertTest, QuestionsAreRoutedToItByTextAndByTag) {
  Start();
  v1::GenerateRequest tagged = Request("auto", "b question");
  tagged.mutable_routing()->add_tags("animals");
  for (const v1::GenerateRequest& request : {Request("auto", "z question"), tagged}) {
    const Answer answer = Send(request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.composite().name(), "zoology");
    EXPECT_EQ(answer.route.experts_size(), 2);
    EXPECT_EQ(worker_->last_submit().mixture_size(), 2);
  }
  EXPECT_FALSE(Send(Request("auto", "b question")).route.has_composite());
}

// Where the router is to choose several, no mixture of mixtures comes of it.
TEST_F(CompositeExpertTest, AmongSeveralChosenItAnswersAloneOrNotAtAll) {
  Start();
  const auto ask = [&](const std::string& prompt) {
    v1::GenerateRequest request = Request("", prompt);
    request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_MIXTURE);
    request.mutable_collaboration()->set_k(4);
    return Send(request);
  };
  const Answer best = ask("z question");
  ASSERT_TRUE(best.status.ok()) << best.status.error_message();
  EXPECT_EQ(best.route.composite().name(), "zoology");
  EXPECT_EQ(best.route.experts_size(), 2);
  const Answer other = ask("b question");
  ASSERT_TRUE(other.status.ok()) << other.status.error_message();
  EXPECT_FALSE(other.route.has_composite());
  EXPECT_EQ(other.route.experts_size(), 3);
  EXPECT_THAT(other.route.reason(), HasSubstr("; without zoology, a mixture itself"));
  float sum = 0;
  for (const v1::ExpertScore& expert : other.route.experts()) {
    EXPECT_NE(expert.name(), "zoology");
    sum += expert.weight();
  }
  EXPECT_FLOAT_EQ(sum, 1);
}

// A gate weighs the members that the router chose, never those of a mixture that answers alone.
TEST_F(CompositeExpertTest, AGateIsOfTheExpertsThatAreLeft) {
  Start();
  const auto ask = [&](const std::string& prompt) {
    v1::GenerateRequest request = Request("", prompt);
    request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_GATED);
    request.mutable_collaboration()->set_k(4);
    return Send(request);
  };
  const Answer best = ask("z question");
  ASSERT_TRUE(best.status.ok()) << best.status.error_message();
  EXPECT_EQ(best.route.composite().name(), "zoology");
  EXPECT_EQ(best.route.mode(), v1::COLLABORATION_MODE_MIXTURE);
  EXPECT_EQ(best.route.gate(), v1::GATE_KIND_UNSPECIFIED);
  EXPECT_FALSE(worker_->last_submit().has_gate());
  const Answer other = ask("b question");
  ASSERT_TRUE(other.status.ok()) << other.status.error_message();
  EXPECT_FALSE(other.route.has_composite());
  EXPECT_EQ(other.route.mode(), v1::COLLABORATION_MODE_GATED);
  EXPECT_EQ(other.route.experts_size(), 3);
  EXPECT_EQ(other.route.top_k(), 3u);
}

TEST_F(CompositeExpertTest, ItIsNoMemberItself) {
  Start();
  v1::GenerateRequest request = Request("");
  request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_BLEND);
  request.mutable_collaboration()->add_members()->set_expert("zoology");
  request.mutable_collaboration()->add_members()->set_expert("chemistry");
  const Answer answer = Send(request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(
      answer.status.error_message(),
      HasSubstr("collaboration.members: zoology is a mixture itself; ask for it alone, or for the members "
                "that you want of it: biology, algebra"));
}

// Whoever may use the mixture need not be allowed its members by name.
TEST_F(CompositeExpertTest, ItsOwnNameDecidesWhoMayUseIt) {
  Start();
  v1::GenerateRequest request = Request("zoology");
  request.mutable_routing()->add_allowed_experts("zoology");
  EXPECT_TRUE(Send(request).status.ok());
  request.mutable_routing()->clear_allowed_experts();
  request.mutable_routing()->add_allowed_experts("biology");
  request.mutable_routing()->add_allowed_experts("algebra");
  EXPECT_EQ(Send(request).status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
}

TEST_F(CompositeExpertTest, ItsCanaryAnswersItsShareAndABrokenOneFallsBackToTheLiveVersion) {
  Start();
  const Digest canary =
      PublishZoology("2", "mixture", "{expert: biology, weight: 0.5}, {expert: chemistry, weight: 0.5}", 1.0);
  ASSERT_TRUE(Eventually([&] { return Send(Request("zoology")).route.composite().canary(); }));
  const Answer tried = Send(Request("zoology"));
  EXPECT_EQ(tried.route.composite().digest(), canary.ToHex());
  EXPECT_EQ(tried.route.experts(1).name(), "chemistry");
  worker_->BreakAdapter(adapters_["chemistry"], grpc::StatusCode::DATA_LOSS);
  const Answer live = Send(Request("zoology"));
  ASSERT_TRUE(live.status.ok()) << live.status.error_message();
  EXPECT_EQ(live.route.composite().digest(), zoology_.ToHex());
  EXPECT_FALSE(live.route.composite().canary());
  EXPECT_THAT(live.route.reason(), HasSubstr("no worker could load the canary of zoology"));
}

TEST_F(CompositeExpertTest, ARoutedOneWithABrokenMemberIsLeftOutAndANamedOneEndsWithTheError) {
  Start();
  worker_->BreakAdapter(adapters_["algebra"], grpc::StatusCode::DATA_LOSS);
  EXPECT_EQ(Send(Request("zoology")).status.error_code(), grpc::StatusCode::DATA_LOSS);
  const Answer routed = Send(Request("auto", "z question"));
  ASSERT_TRUE(routed.status.ok()) << routed.status.error_message();
  EXPECT_FALSE(routed.route.has_composite());
  EXPECT_THAT(routed.route.reason(), HasSubstr("no worker could load zoology (DATA_LOSS)"));
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_fallbacks_total", "zoology"), 1);
}

TEST_F(CompositeExpertTest, MoreMembersThanAWorkerMixesAreRefused) {
  Start({.max_mixture_members = 2});
  PublishZoology("3", "mixture", "{expert: biology}, {expert: algebra}, {expert: chemistry}");
  Answer answer;
  ASSERT_TRUE(Eventually([&] {
    answer = Send(Request("zoology"));
    return !answer.status.ok();
  }));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("mixes 3 experts and no worker mixes more than 2"));
}

}  // namespace
}  // namespace coterie::gateway::testing
