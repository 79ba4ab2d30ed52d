// Which experts a request may use, and which workers serve them.
#include "tests/gateway/experts.h"

#include <string>
#include <vector>

#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

class ExpertsTest : public ::testing::Test {
 protected:
  ~ExpertsTest() override { std::filesystem::remove_all(folder_); }

  v1::RouteResponse Route(const TestGateway& gateway, const v1::RouteRequest& request) {
    grpc::ClientContext context;
    v1::RouteResponse response;
    const grpc::Status status = gateway.stub->Route(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  const std::filesystem::path folder_ = FreshFolder();
  FakeWorker worker_{{}};
};

TEST_F(ExpertsTest, AQuestionIsRoutedAmongTheAllowedExpertsOnly) {
  TestGateway gateway(QuickOptions({worker_.address()}), true, StoreWith(folder_, {"algebra", "botany"}));
  v1::RouteRequest request;
  request.set_prompt("a question");
  v1::RouteDecision decision = Route(gateway, request).decision();
  ASSERT_EQ(decision.experts_size(), 1);
  EXPECT_EQ(decision.experts(0).name(), "algebra");
  EXPECT_EQ(decision.candidates_size(), 2);

  // Names that the catalogue lacks are no experts, and allow nothing.
  request.mutable_routing()->add_allowed_experts("botany");
  request.mutable_routing()->add_allowed_experts("zoology");
  decision = Route(gateway, request).decision();
  EXPECT_EQ(decision.experts_size(), 0);  // the only one left is too far away
  ASSERT_EQ(decision.candidates_size(), 1);
  EXPECT_EQ(decision.candidates(0).name(), "botany");
  request.mutable_routing()->clear_allowed_experts();
  request.mutable_routing()->add_allowed_experts("zoology");
  EXPECT_THAT(Route(gateway, request).decision().reason(),
              HasSubstr("no expert that this caller may use can be weighed"));
}

TEST_F(ExpertsTest, AWorkerOutsideItsShareIsTheLastResortOrNoneWhenSharesAreStrict) {
  FakeWorker::Options botanist;
  botanist.worker_id = "botanist";
  botanist.serves = {"bot*"};
  FakeWorker narrow(botanist);
  v1::GenerateRequest request = BaseRequest(1, 5);
  request.set_expert("algebra");
  {
    TestGateway gateway(QuickOptions({narrow.address()}), true, StoreWith(folder_, {"algebra"}));
    ASSERT_TRUE(gateway.Ready(1));
    const Answer answer = Ask(gateway.stub.get(), request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_THAT(answer.route.placement_reason(), HasSubstr("outside its share of experts"));
  }
  GatewayOptions options = QuickOptions({narrow.address()});
  options.placement.strict_serves = true;
  options.session.worker_wait = absl::Milliseconds(200);
  TestGateway gateway(options, true, StoreWith(folder_ / "strict", {"algebra"}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("botanist does not serve this expert"));
}

}  // namespace
}  // namespace coterie::gateway::testing
