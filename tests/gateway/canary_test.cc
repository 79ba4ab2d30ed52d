// A canary takes its share of an expert's requests, says so, and is promoted or withdrawn over the admin
// listener.
#include "router/canary.h"

#include <string>

#include "coterie/v1/expert.grpc.pb.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ExpertVersion Version(const std::string& text, uint64_t bytes) {
  return {.adapter = Sha256("adapter " + text),
          .revision = Sha256("revision " + text),
          .version = text,
          .adapter_bytes = bytes};
}

// algebra with a canary that gets half of its requests, botany without one.
std::shared_ptr<const RouterState> StateWithCanary() {
  Catalogue catalogue{.generation = 3};
  CatalogueEntry algebra{.name = "algebra", .live = Version("1", 10)};
  algebra.canary = CatalogueCanary{.version = Version("2", 20), .share = 0.5};
  catalogue.entries = {algebra, {.name = "botany", .live = Version("b", 30)}};
  RouterState::Options options;
  options.dim = FakeEmbedder::kDim;
  auto state = RouterState::Create(options, catalogue,
                                   {FakeEmbedder::VectorOf("algebra"), FakeEmbedder::VectorOf("botany")});
  EXPECT_TRUE(state.ok()) << state.status();
  return *std::move(state);
}

RoutingAsk AskWithKey(const std::string& key) {
  RoutingAsk ask;
  ask.canary_key = key;
  return ask;
}

TEST(RouterStateCanaryTest, TheKeyDecidesByNameAndByTextAlike) {
  const auto state = StateWithCanary();
  int n_canary = 0;
  for (int i = 0; i < 100; ++i) {
    const std::string key = absl::StrCat("trace-", i);
    const bool canary = TakesCanary(key, "algebra", 0.5);
    n_canary += canary;
    for (const char* expert : {"algebra", "auto"}) {
      const Decision decision = state
                                    ->Decide(ParseExpertSelector(expert).value(), AskWithKey(key),
                                             FakeEmbedder::VectorOf("a question"))
                                    .value();
      ASSERT_EQ(decision.plan.experts.size(), 1u);
      EXPECT_EQ(decision.plan.experts[0].canary, canary);
      EXPECT_EQ(decision.plan.experts[0].adapter, Sha256(canary ? "adapter 2" : "adapter 1"));
      EXPECT_EQ(decision.adapter_bytes[0], canary ? 20u : 10u);
      const std::string says =
          absl::StrCat("; canary algebra@", Sha256("adapter 2").Short(), " (version 2, share 0.5)");
      if (canary) {
        EXPECT_THAT(decision.plan.reason, HasSubstr(says));
      } else {
        EXPECT_THAT(decision.plan.reason, Not(HasSubstr("canary")));
      }
    }
  }
  EXPECT_GT(n_canary, 30);
  EXPECT_LT(n_canary, 70);
}

TEST(RouterStateCanaryTest, ADigestReachesEitherVersionWhateverTheKey) {
  const auto state = StateWithCanary();
  for (int i = 0; i < 20; ++i) {
    for (const char* version : {"1", "2"}) {
      const Digest adapter = Sha256(absl::StrCat("adapter ", version));
      const auto selector = ParseExpertSelector("algebra@" + adapter.ToHex().substr(0, 12)).value();
      const Decision decision = state->Decide(selector, AskWithKey(absl::StrCat("trace-", i)), {}).value();
      EXPECT_EQ(decision.plan.experts[0].adapter, adapter);
      EXPECT_EQ(decision.plan.experts[0].canary, version[0] == '2');
      EXPECT_EQ(decision.adapter_bytes[0], version[0] == '2' ? 20u : 10u);
    }
  }
}

TEST(RouterStateCanaryTest, WithoutAKeyTheLiveVersionAnswers) {
  const Decision decision =
      StateWithCanary()->Decide(ParseExpertSelector("algebra").value(), RoutingAsk(), {}).value();
  EXPECT_FALSE(decision.plan.experts[0].canary);
  EXPECT_EQ(decision.plan.experts[0].adapter, Sha256("adapter 1"));
}

class CanaryTest : public ::testing::Test {
 protected:
  ~CanaryTest() override { std::filesystem::remove_all(folder_); }

  void SetUp() override {
    GatewayOptions options = QuickOptions({worker_.address()});
    options.admin_listen = "127.0.0.1:0";
    options.catalogue_poll = absl::Milliseconds(10);
    gateway_ = std::make_unique<TestGateway>(options, true, StoreWith(folder_, {"algebra"}));
    ASSERT_TRUE(gateway_->Ready(1));
    experts_ = v1::ExpertService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(gateway_->server->admin_port()), grpc::InsecureChannelCredentials()));
    store_ = ExpertStore::Open(folder_ / "store", TestOptions()).value();
  }

  // Publishes other weights of algebra as another process would, and waits until the gateway knows them.
  Digest PublishCanary(const std::string& weights, double share) {
    const auto source = folder_ / weights;
    WriteExpert(source, {.name = "algebra", .version = "2", .weights = weights});
    const std::vector<float> prototype = FakeEmbedder::VectorOf("algebra");
    std::ofstream(source / kPrototypesFile, std::ios::binary)
        << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
    const auto published = store_->Publish(source, share);
    EXPECT_TRUE(published.ok()) << published.status();
    WaitFor(published->generation);
    return published->expert.digest;
  }
  void WaitFor(uint64_t generation) {
    EXPECT_TRUE(Eventually(
        [&] { return gateway_->server->core().routers->Current()->catalogue().generation == generation; }));
  }
  Answer AskAlgebra(const std::string& trace_id, const std::string& expert = "auto") {
    v1::GenerateRequest request = BaseRequest(1, 3);
    request.set_prompt("a question");
    request.set_expert(expert);
    request.mutable_context()->set_trace_id(trace_id);
    Answer answer = Ask(gateway_->stub.get(), request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    return answer;
  }
  std::string LiveDigest() {
    grpc::ClientContext context;
    v1::GetExpertRequest request;
    request.set_name("algebra");
    v1::GetExpertResponse response;
    const grpc::Status status = experts_->Get(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.expert().digest();
  }

  const std::filesystem::path folder_ = FreshFolder();
  FakeWorker worker_{{}};
  std::unique_ptr<TestGateway> gateway_;
  std::unique_ptr<v1::ExpertService::Stub> experts_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(CanaryTest, TheWorkerRunsTheVersionThatTheRouteNames) {
  const Digest canary = PublishCanary("other weights", 0.5);
  int n_canary = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string trace_id = absl::StrCat("trace-", i);
    const Answer answer = AskAlgebra(trace_id);
    ASSERT_EQ(answer.route.experts_size(), 1);
    const v1::ExpertScore& expert = answer.route.experts(0);
    EXPECT_EQ(expert.canary(), TakesCanary(trace_id, "algebra", 0.5));
    EXPECT_EQ(expert.digest() == canary.ToHex(), expert.canary());
    EXPECT_EQ(worker_.last_submit().adapters(0).digest(), Digest::FromHex(expert.digest())->ToBytes());
    ASSERT_EQ(answer.route.candidates_size(), 1);
    EXPECT_EQ(answer.route.candidates(0).digest(), expert.digest());
    n_canary += expert.canary();
  }
  EXPECT_GT(n_canary, 0);
  EXPECT_LT(n_canary, 20);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_canary_requests_total", "algebra"), n_canary);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "algebra"), 20);
}

TEST_F(CanaryTest, AScoreMeasuresTheLiveVersion) {
  PublishCanary("other weights", 1);
  v1::ScoreRequest request;
  request.set_prompt("a");
  request.set_completion("bc");
  request.set_expert("algebra");
  for (const bool traced : {false, true}) {
    grpc::ClientContext context;
    if (traced) {
      context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    }
    v1::ScoreResponse response;
    ASSERT_TRUE(gateway_->stub->Score(&context, request, &response).ok());
    EXPECT_EQ(response.route().experts(0).digest(), LiveDigest()) << traced;
    EXPECT_FALSE(response.route().experts(0).canary()) << traced;
  }
}

TEST_F(CanaryTest, ATraceOfTheCallersMeetsOneVersion) {
  PublishCanary("other weights", 0.5);
  int n_canary = 0;
  for (int i = 0; i < 20; ++i) {
    const std::string trace = absl::StrCat("4bf92f3577b34da6a3ce929d0e0e47", absl::Hex(i, absl::kZeroPad2));
    grpc::ClientContext context;
    context.AddMetadata("traceparent", absl::StrCat("00-", trace, "-00f067aa0ba902b7-00"));
    v1::GenerateRequest request = BaseRequest(1, 2);
    request.set_expert("algebra");
    const Answer answer = Ask(gateway_->stub.get(), request, nullptr, &context);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.experts(0).canary(), TakesCanary(trace, "algebra", 0.5)) << trace;
    n_canary += answer.route.experts(0).canary() ? 1 : 0;
  }
  EXPECT_GT(n_canary, 0);
  EXPECT_LT(n_canary, 20);
}

TEST_F(CanaryTest, PromoteAndRollBackOverTheAdminListener) {
  const std::string first = LiveDigest();
  const std::string canary = PublishCanary("other weights", 0.2).ToHex();
  {
    grpc::ClientContext context;
    v1::ListExpertsResponse list;
    ASSERT_TRUE(experts_->List(&context, {}, &list).ok());
    EXPECT_EQ(list.experts(0).digest(), first);
    EXPECT_EQ(list.experts(0).canary().digest(), canary);
    EXPECT_EQ(list.experts(0).canary().share(), 0.2);
    EXPECT_EQ(list.experts(0).canary().version(), "2");
  }
  v1::PromoteExpertRequest not_it;
  not_it.set_name("algebra@" + first);
  {
    grpc::ClientContext context;
    v1::PromoteExpertResponse response;
    EXPECT_EQ(experts_->Promote(&context, not_it, &response).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
  }
  {
    grpc::ClientContext context;
    v1::PromoteExpertRequest request;
    request.set_name("algebra");
    v1::PromoteExpertResponse response;
    const grpc::Status status = experts_->Promote(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.expert().digest(), canary);
    EXPECT_FALSE(response.expert().has_canary());
    EXPECT_EQ(response.expert().previous_digests(0), first);
    EXPECT_THAT(response.message(), HasSubstr("promoted algebra 2"));
    EXPECT_EQ(response.catalogue_generation(), 3u);
  }
  EXPECT_EQ(AskAlgebra("any").route.experts(0).digest(), canary);
  v1::RollBackExpertRequest request;
  request.set_name("algebra");
  v1::RollBackExpertResponse response;
  {
    grpc::ClientContext context;
    const grpc::Status status = experts_->RollBack(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(response.expert().digest(), first);
  }
  EXPECT_EQ(AskAlgebra("any").route.experts(0).digest(), first);
  {
    grpc::ClientContext context;
    EXPECT_EQ(experts_->RollBack(&context, request, &response).error_code(),
              grpc::StatusCode::FAILED_PRECONDITION);
  }
  request.set_name("algebra@" + canary.substr(0, 10));
  {
    grpc::ClientContext context;
    ASSERT_TRUE(experts_->RollBack(&context, request, &response).ok());
    EXPECT_EQ(response.expert().digest(), canary);
  }
  request.set_name("base");
  grpc::ClientContext context;
  EXPECT_EQ(experts_->RollBack(&context, request, &response).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace coterie::gateway::testing
