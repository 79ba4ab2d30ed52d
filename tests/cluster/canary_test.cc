// A canary is published, seen, promoted and withdrawn while questions are being answered.
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

using ::testing::HasSubstr;

class CanaryTest : public ClusterTest {
 protected:
  void Start() {
    UseLongContext();
    workers_.push_back(StartWorker("w0"));
    workers_.push_back(StartWorker("w1"));
    for (int i = 0; i < 2; ++i) {
      gateways_.push_back(StartGateway({workers_[0]->address(), workers_[1]->address()}));
    }
  }
  v1::PublishExpertResponse MustPublish(const ExpertSource& source) {
    v1::PublishExpertResponse response;
    const grpc::Status status = Publish(*gateways_[0], source, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  // Both gateways have the generation of the first.
  void WaitForBoth() {
    EXPECT_TRUE(Eventually([&] { return Generation(*gateways_[0]) == Generation(*gateways_[1]); }));
  }
  std::string Promote(const std::string& name) {
    grpc::ClientContext context;
    v1::PromoteExpertRequest request;
    request.set_name(name);
    v1::PromoteExpertResponse response;
    const grpc::Status status = gateways_[0]->experts->Promote(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.expert().digest();
  }
  std::string RollBack(const std::string& name) {
    grpc::ClientContext context;
    v1::RollBackExpertRequest request;
    request.set_name(name);
    v1::RollBackExpertResponse response;
    const grpc::Status status = gateways_[0]->experts->RollBack(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.expert().digest();
  }
  std::vector<v1::GenerateRequest> Traced(size_t n, uint32_t max_tokens) {
    std::vector<v1::GenerateRequest> requests = Questions("one", n, max_tokens);
    for (size_t i = 0; i < n; ++i) {
      requests[i].mutable_context()->set_trace_id("trace-" + std::to_string(i));
    }
    return requests;
  }
  // The digests that answered, in the order of the requests.
  std::vector<std::string> DigestsOf(const std::deque<Answer>& answers) {
    std::vector<std::string> digests;
    for (const Answer& answer : answers) {
      EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
      digests.push_back(answer.route.experts_size() == 1 ? answer.route.experts(0).digest() : "");
      if (answer.route.experts_size() == 1 && answer.route.experts(0).canary()) {
        EXPECT_THAT(answer.route.reason(), HasSubstr("canary one@" + digests.back().substr(0, 12)));
      }
    }
    return digests;
  }

  std::vector<std::unique_ptr<WorkerProcess>> workers_;
  std::vector<std::unique_ptr<GatewayProcess>> gateways_;
};

TEST_F(CanaryTest, ItsShareOfTheRequestsIsSeenAtEveryGatewayAndIsTheSameOnes) {
  Start();
  const std::string live = MustPublish({.version = "1", .adapter = "llama-qv"}).expert().digest();
  const v1::PublishExpertResponse published =
      MustPublish({.version = "2", .adapter = "llama-all-linear", .canary_share = 0.3});
  EXPECT_TRUE(published.canary());
  EXPECT_EQ(published.expert().digest(), live);
  const std::string canary = published.expert().canary().digest();
  WaitForBoth();
  std::vector<std::vector<std::string>> seen;
  for (const auto& gateway : gateways_) {
    Asking asking({gateway->generation.get()}, Traced(80, 2));
    seen.push_back(DigestsOf(asking.Join()));
  }
  EXPECT_EQ(seen[0], seen[1]);
  const auto n = std::count(seen[0].begin(), seen[0].end(), canary);
  EXPECT_EQ(std::count(seen[0].begin(), seen[0].end(), live), 80 - n);
  // 24 are expected; the hash is fixed, so this is no matter of luck.
  EXPECT_GT(n, 12);
  EXPECT_LT(n, 36);
  EXPECT_EQ(MetricSum(gateways_[0]->Metrics(), "coterie_canary_requests_total"), static_cast<double>(n));
}

TEST_F(CanaryTest, PromotionAndRollBackLeaveAnswersInFlightTheirVersion) {
  Start();
  const std::string live = MustPublish({.version = "1", .adapter = "llama-qv"}).expert().digest();
  const std::string canary = MustPublish({.version = "2", .adapter = "llama-all-linear", .canary_share = 0.5})
                                 .expert()
                                 .canary()
                                 .digest();
  // What each version answers, undisturbed.
  const auto texts_of = [&](const std::string& digest) {
    std::vector<v1::GenerateRequest> requests = Traced(6, 300);
    for (v1::GenerateRequest& request : requests) request.set_expert("one@" + digest);
    return AskAll(*gateways_[0], requests);
  };
  const std::vector<std::string> live_texts = texts_of(live), canary_texts = texts_of(canary);
  // All are under way when the catalogue changes; each ends with the version it began with.
  const auto change_under_way = [&](const auto& change) {
    Asking asking({gateways_[0]->generation.get()}, Traced(6, 300));
    EXPECT_TRUE(asking.WaitForTokens(5));
    change();
    EXPECT_EQ(asking.ended(), 0u) << "the answers ended before the catalogue changed";
    const std::vector<std::string> texts = Texts(asking.Join());
    const std::vector<std::string> digests = DigestsOf(asking.Join());
    for (size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(texts[i], (digests[i] == live ? live_texts : canary_texts)[i]) << i;
    }
    return static_cast<size_t>(std::count(digests.begin(), digests.end(), canary));
  };

  const size_t n_canary = change_under_way([&] { EXPECT_EQ(RollBack("one"), live); });
  EXPECT_GT(n_canary, 0u);
  EXPECT_LT(n_canary, 6u);
  // Withdrawn: the live version answers all.
  size_t n = change_under_way(
      [&] { MustPublish({.version = "2", .adapter = "llama-all-linear", .canary_share = 1}); });
  EXPECT_EQ(n, 0u);
  EXPECT_EQ(change_under_way([&] { EXPECT_EQ(Promote("one"), canary); }), 6u);
  EXPECT_EQ(change_under_way([&] { EXPECT_EQ(RollBack("one"), live); }), 6u);
  EXPECT_EQ(change_under_way([] {}), 0u);
}

}  // namespace
}  // namespace coterie::cluster
