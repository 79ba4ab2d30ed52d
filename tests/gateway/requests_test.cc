// What is refused, and with which words.
#include <functional>
#include <string>
#include <thread>

#include "coterie/v1/rpc_status.pb.h"
#include "net/grpc_time.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

// The google.rpc.RetryInfo in a status's details.
absl::Duration RetryDelayOf(const grpc::Status& status) {
  rpc::Status details;
  EXPECT_TRUE(details.ParseFromString(status.error_details()));
  EXPECT_EQ(details.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(details.message(), status.error_message());
  if (details.details_size() != 1) return absl::ZeroDuration();
  EXPECT_EQ(details.details(0).type_url(), "type.googleapis.com/google.rpc.RetryInfo");
  rpc::RetryInfo info;
  EXPECT_TRUE(info.ParseFromString(details.details(0).value()));
  return absl::Seconds(info.retry_delay().seconds()) + absl::Nanoseconds(info.retry_delay().nanos());
}

class RequestsTest : public ::testing::Test {
 protected:
  FakeWorker worker_{{}};
};

TEST_F(RequestsTest, WhatIsOutOfBoundsIsRefusedByNameValueAndLimit) {
  GatewayOptions options = QuickOptions({worker_.address()});
  options.limits.max_input_bytes = 10'000;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  struct Case {
    std::string words;
    std::function<void(v1::GenerateRequest&)> spoil;
  };
  const Case cases[] = {
      {"neither a prompt nor chat messages", [](auto& r) { r.clear_prompt(); }},
      {"the input has 10001 bytes, at most 10000 are allowed",
       [](auto& r) { r.set_prompt(std::string(10001, 'x')); }},
      {"the prompt has 5000 tokens, at most 4096 are served",
       [](auto& r) { r.set_prompt(std::string(5000, 'x')); }},
      {"the prompt has 4096 tokens and leaves no room for an answer: the model's context holds 4096",
       [](auto& r) { r.set_prompt(std::string(4096, 'x')); }},
      {"the prompt has no tokens", [](auto& r) { r.set_prompt(""); }},
      {"chat.messages[0].role is empty", [](auto& r) { r.mutable_chat()->add_messages()->set_content("x"); }},
      {"temperature", [](auto& r) { r.mutable_sampling()->set_temperature(-1); }},
      {"max_tokens", [](auto& r) { r.mutable_sampling()->set_max_tokens(0); }},
      {"top_p", [](auto& r) { r.mutable_sampling()->set_top_p(2); }},
      {"logprobs", [](auto& r) { r.mutable_sampling()->set_logprobs(21); }},
      {"logit_bias", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[9999] = 1; }},
      {"stop", [](auto& r) { r.mutable_sampling()->add_stop(""); }},
      {"context.priority is 101, must lie in [-100, 100]",
       [](auto& r) { r.mutable_context()->set_priority(101); }},
      {"context.tenant has 65 bytes, at most 64 are allowed",
       [](auto& r) { r.mutable_context()->set_tenant(std::string(65, 't')); }},
      {"Not A Name", [](auto& r) { r.set_expert("Not A Name"); }},
      {"routing.policy \"best\" is not one of nearest",
       [](auto& r) {
         r.set_expert("auto");
         r.mutable_routing()->set_policy("best");
       }},
  };
  for (const Case& c : cases) {
    v1::GenerateRequest request = BaseRequest(1, 5);
    c.spoil(request);
    const Answer answer = Ask(gateway.stub.get(), request);
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << c.words;
    EXPECT_THAT(answer.status.error_message(), HasSubstr(c.words));
    EXPECT_EQ(answer.n_messages, 0);
  }
  EXPECT_EQ(worker_.submits(), 0u);
  EXPECT_TRUE(Ask(gateway.stub.get(), BaseRequest(1, 5)).status.ok());
}

TEST_F(RequestsTest, AnUnknownExpertIsNotFound) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::GenerateRequest request = BaseRequest(1, 5);
  request.set_expert("nobody");
  const Answer answer = Ask(gateway.stub.get(), request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("nobody"));
}

TEST_F(RequestsTest, AnExpertThatIsNotAmongTheAllowedIsDenied) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::GenerateRequest request = BaseRequest(1, 5);
  request.set_expert("secret");
  request.mutable_routing()->add_allowed_experts("public");
  const Answer answer = Ask(gateway.stub.get(), request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(answer.status.error_message(), "expert \"secret\" is not among the experts this request may use");
}

TEST_F(RequestsTest, WithoutAnEmbedderOnlyNamesAndTheBaseAreServed) {
  TestGateway gateway(QuickOptions({worker_.address()}), /*with_embedder=*/false);
  ASSERT_TRUE(gateway.Ready(1));
  v1::GenerateRequest request = BaseRequest(1, 5);
  request.set_expert("auto");
  const Answer answer = Ask(gateway.stub.get(), request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("without an embedder (--embedder)"));
  EXPECT_TRUE(Ask(gateway.stub.get(), BaseRequest(1, 5)).status.ok());
}

TEST_F(RequestsTest, AFullGatewayAnswersWithARetryDelay) {
  GatewayOptions options = QuickOptions({worker_.address()});
  options.admission.max_running = 1;
  options.admission.max_waiting = 0;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  Answer refused;
  bool asked = false;
  const Answer first = Ask(gateway.stub.get(), BaseRequest(1, 100), [&](const Answer& so_far) {
    if (asked || so_far.token_ids.empty()) return;
    asked = true;
    refused = Ask(gateway.stub.get(), BaseRequest(2, 5));
  });
  EXPECT_TRUE(first.status.ok()) << first.status.error_message();
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.status.error_message(), HasSubstr("the gateway's queue is full"));
  EXPECT_GE(RetryDelayOf(refused.status), absl::Milliseconds(100));
}

TEST_F(RequestsTest, AFullEmbeddingQueueAnswersWithARetryDelay) {
  class Full final : public TextEmbedder {
    void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) override {
      done(absl::ResourceExhaustedError("full"));
    }
    size_t CountTokens(std::string_view text) const override { return text.size(); }
    size_t dim() const override { return FakeEmbedder::kDim; }
    const Digest& digest() const override { return digest_; }
    const Digest digest_ = Sha256("full");
  };
  GatewayParts parts = FakeParts();
  parts.embedder = std::make_unique<Full>();
  TestGateway gateway(QuickOptions({worker_.address()}), std::move(parts));
  ASSERT_TRUE(gateway.Ready(1));
  const auto expect_delay = [](const grpc::Status& status) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
    EXPECT_GE(RetryDelayOf(status), absl::Milliseconds(100));
  };
  v1::RouteRequest route;
  route.set_prompt("a question");
  grpc::ClientContext first, second;
  v1::RouteResponse routed;
  expect_delay(gateway.stub->Route(&first, route, &routed));
  v1::EmbedRequest embed;
  embed.add_texts("a text");
  v1::EmbedResponse embedded;
  expect_delay(gateway.stub->Embed(&second, embed, &embedded));
  v1::GenerateRequest question = BaseRequest(1, 5);
  question.set_expert("auto");
  expect_delay(Ask(gateway.stub.get(), question).status);
}

TEST_F(RequestsTest, WhoWaitsIsServedWhenAPlaceIsFree) {
  GatewayOptions options = QuickOptions({worker_.address()});
  options.admission.max_running = 1;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  std::vector<Answer> answers(6);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < answers.size(); ++i) {
    clients.emplace_back([&, i] { answers[i] = Ask(gateway.stub.get(), BaseRequest(i, 20)); });
  }
  for (std::thread& client : clients) client.join();
  for (size_t i = 0; i < answers.size(); ++i) {
    EXPECT_TRUE(answers[i].status.ok()) << answers[i].status.error_message();
    EXPECT_EQ(answers[i].text, FakeText(i, 20));
  }
}

TEST_F(RequestsTest, AWorkerWhoseQueueIsFullIsPassedOverAndWhenAllAreFullTheClientIsTold) {
  FakeWorker::Options full;
  full.worker_id = "full";
  full.max_waiting = 0;
  FakeWorker other(full);
  {
    TestGateway gateway(QuickOptions({worker_.address(), other.address()}));
    ASSERT_TRUE(gateway.Ready(2));
    for (uint64_t seed = 0; seed < 8; ++seed) {
      const Answer answer = Ask(gateway.stub.get(), BaseRequest(seed, 10));
      EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
      EXPECT_EQ(answer.finish.worker(), "fake-0");
    }
  }
  TestGateway gateway(QuickOptions({other.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 10));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("the worker's queue is full"));
  EXPECT_GE(RetryDelayOf(answer.status), absl::Milliseconds(100));
}

TEST_F(RequestsTest, AWorkerOfAnotherBaseIsRefusedAndStatusSaysWhy) {
  FakeWorker::Options options;
  options.base = Sha256("another base");
  FakeWorker stranger(options);
  GatewayOptions quick = QuickOptions({stranger.address()});
  quick.session.worker_wait = absl::Milliseconds(300);
  TestGateway gateway(quick);
  ASSERT_TRUE(Eventually(
      [&] { return gateway.server->core().workers->Report()[0].health == WorkerHealth::kRefused; }));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 5));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("serves base " + Sha256("another base").Short()));
}

TEST_F(RequestsTest, ADrainingWorkerGetsNothingNew) {
  FakeWorker::Options options;
  options.worker_id = "leaving";
  options.draining = true;
  FakeWorker leaving(options);
  TestGateway gateway(QuickOptions({worker_.address(), leaving.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  ASSERT_TRUE(Eventually([&] {
    const auto reports = gateway.server->core().workers->Report();
    return std::any_of(reports.begin(), reports.end(),
                       [](const auto& r) { return r.health == WorkerHealth::kDraining; });
  }));
  for (uint64_t seed = 0; seed < 8; ++seed) {
    EXPECT_EQ(Ask(gateway.stub.get(), BaseRequest(seed, 5)).route.worker(), "fake-0");
  }
  EXPECT_EQ(leaving.submits(), 0u);
}

TEST_F(RequestsTest, TenantPriorityTraceAndSaltTravelToTheWorker) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::GenerateRequest request = BaseRequest(1, 5);
  request.mutable_context()->set_tenant("acme");
  request.mutable_context()->set_priority(7);
  request.mutable_context()->set_trace_id("trace-1");
  request.mutable_context()->set_cache_salt("salt");
  request.mutable_sampling()->set_temperature(0.5f);
  request.mutable_sampling()->add_stop("zzzzzz");
  ASSERT_TRUE(Ask(gateway.stub.get(), request).status.ok());
  const v1::Submit submit = worker_.last_submit();
  EXPECT_EQ(submit.tenant(), "acme");
  EXPECT_EQ(submit.priority(), 7);
  EXPECT_EQ(submit.trace_id(), "trace-1");
  EXPECT_EQ(submit.cache_salt(), "salt");
  EXPECT_EQ(submit.sampling().temperature(), 0.5f);
  EXPECT_EQ(submit.sampling().stop_size(), 0);  // text is the gateway's
  EXPECT_GT(submit.deadline_ms(), 0u);
}

TEST_F(RequestsTest, APortThatIsTakenIsNamed) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  GatewayOptions options = QuickOptions({worker_.address()});
  options.listen = "127.0.0.1:" + std::to_string(gateway.server->port());
  GatewayParts parts;
  parts.text = std::make_unique<FakeTextModel>();
  const auto second = GatewayServer::Start(options, std::move(parts));
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("cannot listen on " + options.listen));
}

TEST_F(RequestsTest, ClientsThatGoAwayWhileWaitingLeaveNothingBehind) {
  GatewayOptions options = QuickOptions({worker_.address()});
  options.admission.max_running = 1;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  std::vector<std::thread> clients;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      grpc::ClientContext context;
      context.set_deadline(net::GrpcDeadline(absl::Milliseconds(50 + 10 * i)));
      Ask(gateway.stub.get(), BaseRequest(1, 4000), nullptr, &context);
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(Eventually([&] { return gateway.server->core().admission->idle(); }));
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 0; }));
}

}  // namespace
}  // namespace coterie::gateway::testing
