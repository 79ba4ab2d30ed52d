// Adapters that a worker cannot load: another worker, another expert, or the base.
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"
#include "tests/testing/captured_log.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class FallbackTest : public ::testing::Test {
 protected:
  ~FallbackTest() override { std::filesystem::remove_all(folder_); }

  // `names` are published; the question is about things that begin with an a.
  void Start(const std::vector<std::string>& names, GatewayOptions options = QuickOptions({})) {
    auto store = StoreWith(folder_, names);
    for (const std::string& name : names) adapters_[name] = AdapterOf(*store, name);
    options.workers = workers_[0].address() + "," + workers_[1].address();
    gateway_ = std::make_unique<TestGateway>(std::move(options), true, std::move(store));
    ASSERT_TRUE(gateway_->Ready(2));
  }
  void BreakEverywhere(const std::string& expert, grpc::StatusCode code, bool marked = true) {
    for (FakeWorker& worker : workers_) worker.BreakAdapter(adapters_.at(expert), code, marked);
  }
  Answer AskFor(const std::string& expert, uint64_t seed = 1) {
    v1::GenerateRequest request = BaseRequest(seed, 20);
    request.set_prompt("a question");
    request.set_expert(expert);
    return Ask(gateway_->stub.get(), request);
  }
  double Fallbacks(const std::string& expert) {
    return ExpertCounter(gateway_->server->core(), "coterie_expert_fallbacks_total", expert);
  }

  const std::filesystem::path folder_ = FreshFolder();
  FakeWorker workers_[2] = {FakeWorker({.worker_id = "w0"}), FakeWorker({.worker_id = "w1"})};
  std::map<std::string, Digest> adapters_;
  std::unique_ptr<TestGateway> gateway_;
};

TEST_F(FallbackTest, AWorkerThatCannotLoadTheAdapterIsPassedOver) {
  Start({"algebra"});
  const std::string expected = FakeText(1, 20, adapters_.at("algebra").ToBytes());
  struct Case {
    grpc::StatusCode code;
    bool marked;
  };
  // Marked ones whatever they are; of others those that come from nothing else.
  for (const Case& c : std::vector<Case>{{grpc::StatusCode::NOT_FOUND, true},
                                         {grpc::StatusCode::OUT_OF_RANGE, true},
                                         {grpc::StatusCode::RESOURCE_EXHAUSTED, true},
                                         {grpc::StatusCode::FAILED_PRECONDITION, true},
                                         {grpc::StatusCode::NOT_FOUND, false},
                                         {grpc::StatusCode::DATA_LOSS, false},
                                         {grpc::StatusCode::INTERNAL, false}}) {
    for (int broken = 0; broken < 2; ++broken) {
      for (FakeWorker& worker : workers_) worker.MendAdapters();
      workers_[broken].BreakAdapter(adapters_.at("algebra"), c.code, c.marked);
      for (const std::string expert : {"algebra", "auto"}) {
        const Answer answer = AskFor(expert);
        ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
        EXPECT_EQ(answer.text, expected);
        EXPECT_EQ(answer.route.worker(), broken == 0 ? "w1" : "w0");
        EXPECT_EQ(answer.route.experts(0).name(), "algebra");
        EXPECT_TRUE(answer.notices.empty());
      }
    }
  }
  EXPECT_EQ(gateway_->server->core().metrics->failovers_same_numerics.Value(), 0);
  EXPECT_EQ(Fallbacks("algebra"), 0);
}

TEST_F(FallbackTest, ANamedExpertThatNobodyCanLoadStaysAnError) {
  GatewayOptions patient = QuickOptions({});
  patient.session.worker_wait = absl::Hours(1);  // it is not waited
  Start({"algebra", "arithmetic"}, patient);
  BreakEverywhere("algebra", grpc::StatusCode::DATA_LOSS);
  const Answer answer = AskFor("algebra");
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DATA_LOSS);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("adapter algebra cannot be loaded"));
  EXPECT_THAT(answer.status.error_message(), HasSubstr("worker w"));
  EXPECT_EQ(workers_[0].submits() + workers_[1].submits(), 2u);
  // Not for want of places: trying again would not help.
  BreakEverywhere("algebra", grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(AskFor("algebra").status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  // Missing everywhere, also after it was waited for.
  BreakEverywhere("algebra", grpc::StatusCode::NOT_FOUND);
  gateway_.reset();
  std::filesystem::remove_all(folder_);
  patient.session.adapter_wait = absl::Milliseconds(300);
  Start({"algebra", "arithmetic"}, patient);
  EXPECT_EQ(AskFor("algebra").status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Fallbacks("algebra"), 0);
}

TEST_F(FallbackTest, AnAdapterThatAppearsLateIsWaitedFor) {
  GatewayOptions patient = QuickOptions({});
  patient.session.worker_wait = patient.session.adapter_wait = absl::Hours(1);
  Start({"algebra"}, patient);
  BreakEverywhere("algebra", grpc::StatusCode::NOT_FOUND);
  std::thread volume([this] {
    EXPECT_TRUE(Eventually([this] { return workers_[0].submits() > 2; }));
    for (FakeWorker& worker : workers_) worker.MendAdapters();
  });
  const Answer answer = AskFor("algebra");
  volume.join();
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, FakeText(1, 20, adapters_.at("algebra").ToBytes()));
}

TEST_F(FallbackTest, ARoutedQuestionGoesToTheNextBestExpertAndSaysSo) {
  GatewayOptions patient = QuickOptions({});
  patient.session.worker_wait = patient.session.adapter_wait = absl::Hours(1);  // nobody waits for it
  Start({"algebra", "arithmetic", "botany"}, patient);
  for (const auto code : {grpc::StatusCode::NOT_FOUND, grpc::StatusCode::DATA_LOSS}) {
    BreakEverywhere("algebra", code);
    const Answer answer = AskFor("auto");
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_TRUE(answer.route_came_first);
    ASSERT_EQ(answer.route.experts_size(), 1);
    EXPECT_EQ(answer.route.experts(0).name(), "arithmetic");
    EXPECT_THAT(answer.route.reason(), HasSubstr("no worker could load algebra ("));
    EXPECT_THAT(answer.route.reason(), HasSubstr("arithmetic"));
    EXPECT_EQ(answer.text, FakeText(1, 20, adapters_.at("arithmetic").ToBytes()));
    EXPECT_TRUE(answer.notices.empty());
  }
  EXPECT_EQ(Fallbacks("algebra"), 2);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "algebra"), 0);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "arithmetic"), 2);
}

TEST_F(FallbackTest, AnExpertThatFailsEveryQuestionIsOneLineOfTheLog) {
  CapturedLog log;
  Start({"algebra", "arithmetic"});
  BreakEverywhere("algebra", grpc::StatusCode::DATA_LOSS);
  for (uint64_t seed = 1; seed <= 20; ++seed) ASSERT_TRUE(AskFor("auto", seed).status.ok());
  EXPECT_EQ(Fallbacks("algebra"), 20);
  gateway_.reset();
  EXPECT_EQ(log.Count("no worker could load algebra"), 1u);
  EXPECT_EQ(log.Count("adapter algebra cannot be loaded"), 1u);  // with the worker's words
}

TEST_F(FallbackTest, WithNoOtherExpertTheBaseAnswersAndSaysSo) {
  Start({"algebra", "arithmetic", "botany"});
  BreakEverywhere("algebra", grpc::StatusCode::DATA_LOSS);
  BreakEverywhere("arithmetic", grpc::StatusCode::NOT_FOUND);
  const Answer answer = AskFor("auto");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.route.experts_size(), 0);
  EXPECT_EQ(answer.text, FakeText(1, 20));
  EXPECT_THAT(answer.route.reason(),
              HasSubstr("no worker could load algebra (DATA_LOSS), arithmetic (NOT_FOUND); instead "));
  EXPECT_EQ(Fallbacks("algebra"), 1);
  EXPECT_EQ(Fallbacks("arithmetic"), 1);
  // Only among those that the caller may use.
  for (FakeWorker& worker : workers_) worker.MendAdapters();
  BreakEverywhere("algebra", grpc::StatusCode::DATA_LOSS);
  v1::GenerateRequest request = BaseRequest(1, 20);
  request.set_prompt("a question");
  request.set_expert("auto");
  request.mutable_routing()->add_allowed_experts("algebra");
  const Answer restricted = Ask(gateway_->stub.get(), request);
  ASSERT_TRUE(restricted.status.ok()) << restricted.status.error_message();
  EXPECT_EQ(restricted.route.experts_size(), 0);
}

TEST_F(FallbackTest, OfSeveralExpertsTheBrokenOneIsLeftOut) {
  GatewayOptions options = QuickOptions({});
  options.routing.selection = coterie::RoutingOptions::Selection::kTopK;
  options.routing.top_k = 2;
  Start({"algebra", "arithmetic"}, options);
  BreakEverywhere("arithmetic", grpc::StatusCode::DATA_LOSS);
  const Answer answer = AskFor("auto");
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_EQ(answer.route.experts_size(), 1);
  EXPECT_EQ(answer.route.experts(0).name(), "algebra");
  EXPECT_FLOAT_EQ(answer.route.experts(0).weight(), 1);
  EXPECT_EQ(Fallbacks("algebra"), 0);
  EXPECT_EQ(Fallbacks("arithmetic"), 1);
}

TEST_F(FallbackTest, AScoreThatWasRoutedFallsBackToo) {
  Start({"algebra", "arithmetic"});
  BreakEverywhere("algebra", grpc::StatusCode::DATA_LOSS);
  v1::ScoreRequest request;
  request.set_prompt("a question");
  request.set_completion("answered");
  request.set_expert("auto");
  grpc::ClientContext context;
  v1::ScoreResponse response;
  const grpc::Status status = gateway_->stub->Score(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.route().experts_size(), 1);
  EXPECT_EQ(response.route().experts(0).name(), "arithmetic");
  EXPECT_EQ(response.tokens_size(), 8);
}

TEST_F(FallbackTest, ACanaryThatCannotBeLoadedGivesWayToTheLiveVersion) {
  GatewayOptions options = QuickOptions({});
  options.catalogue_poll = absl::Milliseconds(10);
  Start({"algebra"}, options);
  const auto source = folder_ / "second";
  WriteExpert(source, {.name = "algebra", .version = "2", .weights = "other weights"});
  const std::vector<float> prototype = FakeEmbedder::VectorOf("algebra");
  std::ofstream(source / kPrototypesFile, std::ios::binary)
      << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
  const auto store = ExpertStore::Open(folder_ / "store", TestOptions()).value();
  const auto published = store->Publish(source, /*canary_share=*/1);
  ASSERT_TRUE(published.ok()) << published.status();
  ASSERT_TRUE(Eventually([&] {
    return gateway_->server->core().routers->Current()->catalogue().generation == published->generation;
  }));
  EXPECT_TRUE(AskFor("algebra").route.experts(0).canary());
  for (FakeWorker& worker : workers_) {
    worker.BreakAdapter(published->expert.digest, grpc::StatusCode::NOT_FOUND);
  }
  for (const std::string expert : {"algebra", "auto"}) {
    const Answer answer = AskFor(expert);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    ASSERT_EQ(answer.route.experts_size(), 1);
    EXPECT_FALSE(answer.route.experts(0).canary());
    EXPECT_THAT(answer.route.reason(), HasSubstr("no worker could load the canary of algebra (NOT_FOUND)"));
    EXPECT_EQ(answer.text, FakeText(1, 20, adapters_.at("algebra").ToBytes()));
  }
}

}  // namespace
}  // namespace coterie::gateway::testing
