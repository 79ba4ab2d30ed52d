#include <string>

#include "net/grpc_time.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

TEST(GenerateTest, AnswersWithRouteFirstTextAndFinishLast) {
  FakeWorker worker({});
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(7, 20));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.route_came_first);
  EXPECT_TRUE(answer.finish_came_last);
  EXPECT_EQ(answer.text, FakeText(7, 20));
  EXPECT_EQ(answer.token_ids.size(), 20u);
  EXPECT_EQ(answer.route.worker(), "fake-0");
  EXPECT_EQ(answer.route.experts_size(), 0);
  EXPECT_EQ(answer.finish.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.finish.usage().prompt_tokens(), 7u);
  EXPECT_EQ(answer.finish.usage().completion_tokens(), 20u);
  EXPECT_EQ(answer.finish.seed(), 7u);
  EXPECT_EQ(answer.finish.numerics_class(), "fake");
  EXPECT_GT(answer.finish.timings().first_token_seconds(), 0);
  EXPECT_GE(answer.finish.timings().total_seconds(), answer.finish.timings().first_token_seconds());
}

TEST(GenerateTest, EndsBeforeAStopStringAndFreesTheWorker) {
  FakeWorker worker({});
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::GenerateRequest request = BaseRequest(3, 200);
  const std::string full = FakeText(3, 200);
  const std::string stop = full.substr(40, 5);
  request.mutable_sampling()->add_stop(stop);
  const Answer answer = Ask(gateway.stub.get(), request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, full.substr(0, full.find(stop)));
  EXPECT_EQ(answer.finish.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(answer.finish.stop(), stop);
  EXPECT_TRUE(Eventually([&] { return worker.live_sequences() == 0; }));
}

TEST(GenerateTest, AnEndOfTextTokenEndsTheAnswerAndIsNamed) {
  FakeWorker::Options options;
  options.eos_at = 5;
  FakeWorker worker(options);
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(3, 200));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, FakeText(3, 5));
  EXPECT_EQ(answer.finish.reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(answer.finish.stop(), "<eos>");
}

TEST(GenerateTest, TheSameSeedGivesTheSameTextAndADrawnSeedIsReported) {
  FakeWorker worker({});
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::GenerateRequest request = BaseRequest(0, 12);
  request.mutable_sampling()->clear_seed();
  const Answer answer = Ask(gateway.stub.get(), request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, FakeText(answer.finish.seed(), 12));
}

TEST(GenerateTest, CancellingReachesTheWorkerAndFreesIt) {
  FakeWorker worker({});
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  grpc::ClientContext context;
  const Answer answer = Ask(
      gateway.stub.get(), BaseRequest(1, 4000),
      [&](const Answer& so_far) {
        if (so_far.token_ids.size() >= 10) context.TryCancel();
      },
      &context);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return worker.live_sequences() == 0; }));
  EXPECT_EQ(worker.cancels(), 1u);
  EXPECT_TRUE(Eventually([&] { return gateway.server->core().admission->idle(); }));
}

TEST(GenerateTest, AtItsDeadlineTheRequestEndsAndTheWorkerIsFree) {
  FakeWorker worker({});
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  grpc::ClientContext context;
  context.set_deadline(net::GrpcDeadline(absl::Milliseconds(300)));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 4000), nullptr, &context);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_GT(answer.token_ids.size(), 0u);
  EXPECT_TRUE(Eventually([&] { return worker.live_sequences() == 0; }));
}

TEST(GenerateTest, TheGatewaysOwnTimeLimitHoldsWithoutADeadline) {
  FakeWorker worker({});
  GatewayOptions options = QuickOptions({worker.address()});
  options.limits.max_time = absl::Milliseconds(300);
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 4000));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("the request's time was over after 300ms"));
  EXPECT_TRUE(Eventually([&] { return worker.live_sequences() == 0; }));
}

TEST(GenerateTest, ASlowReaderHoldsItsWorkerBackWithinTheWindow) {
  FakeWorker::Options worker_options;
  worker_options.step = absl::Milliseconds(1);
  FakeWorker worker(worker_options);
  GatewayOptions options = QuickOptions({worker.address()});
  options.session.window_tokens = 32;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  // Logprobs with texts make the messages large, so that HTTP/2's own window is soon full.
  v1::GenerateRequest request = BaseRequest(1, 4000);
  request.mutable_sampling()->set_logprobs(20);
  grpc::ClientContext context;
  const auto reader = gateway.stub->Generate(&context, request);
  v1::GenerateResponse response;
  uint64_t before = 0;
  // Without reading, the worker comes to rest...
  EXPECT_TRUE(Eventually(
      [&] {
        const uint64_t now = worker.tokens_sent();
        absl::SleepFor(absl::Milliseconds(200));
        return now > 0 && worker.tokens_sent() == now;
      },
      absl::Seconds(30)));
  before = worker.tokens_sent();
  EXPECT_LT(before, 4000u);
  // ... and reading sets it going again, with nothing lost.
  uint32_t n_tokens = 0;
  std::string text;
  while (reader->Read(&response)) {
    n_tokens += static_cast<uint32_t>(response.delta().token_ids_size());
    text += response.delta().text();
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(n_tokens, 4000u);
  EXPECT_EQ(text, FakeText(1, 4000));
}

}  // namespace
}  // namespace coterie::gateway::testing
