// What a gateway records of a request, as an OTLP receiver hears it.
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/gateway/http/api_test_base.h"
#include "tests/net/trace/otlp_receiver.h"

namespace coterie::gateway::testing {
namespace {

using net::testing::OtlpReceiver;
using Received = OtlpReceiver::Received;
using ::testing::HasSubstr;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kCaller[] = "00f067aa0ba902b7";

std::string Hex(const std::string& bytes) { return absl::BytesToHexString(bytes); }
std::string CallersHeader(const char* flags) { return absl::StrCat("00-", kTrace, "-", kCaller, "-", flags); }

class TracesTest : public ApiTest {
 protected:
  GatewayOptions Traced(double sample) {
    GatewayOptions options = HttpOptions({worker_.address()});
    options.traces.endpoint = receiver_.url();
    options.traces.batch_delay = absl::Milliseconds(5);
    options.trace_sample = sample;
    return options;
  }
  Answer AskOf(const std::string& traceparent, const v1::GenerateRequest& request) {
    grpc::ClientContext context;
    if (!traceparent.empty()) context.AddMetadata("traceparent", traceparent);
    if (!traceparent.empty()) context.AddMetadata("tracestate", "vendor=1");
    return Ask(gateway_->stub.get(), request, nullptr, &context);
  }
  // The only one of that name.
  static Received One(const std::vector<Received>& spans, std::string_view name) {
    Received found;
    size_t n = 0;
    for (const Received& span : spans) {
      if (span.span.name() != name) continue;
      found = span;
      ++n;
    }
    EXPECT_EQ(n, 1u) << name;
    return found;
  }

  const OtlpReceiver receiver_;
};

TEST_F(TracesTest, EveryPartOfARequestIsBelowItsCallersSpan) {
  Start(Traced(0), {"algebra"});
  v1::GenerateRequest request = BaseRequest(3, 20);
  request.set_prompt("a question");
  request.set_expert("auto");
  ASSERT_TRUE(AskOf(CallersHeader("01"), request).status.ok());
  const std::vector<Received> spans = receiver_.WaitFor("Generate");
  const Received root = One(spans, "Generate");
  EXPECT_EQ(Hex(root.span.trace_id()), kTrace);
  EXPECT_EQ(Hex(root.span.parent_span_id()), kCaller);
  EXPECT_EQ(root.span.trace_state(), "vendor=1");
  EXPECT_EQ(root.span.kind(), 2u);
  EXPECT_EQ(root.service, "coterie-gateway");
  EXPECT_EQ(root.Attribute("coterie.expert"), "algebra");
  EXPECT_EQ(root.Attribute("coterie.answer_tokens"), "20");
  EXPECT_EQ(root.Attribute("coterie.finish"), "length");
  ASSERT_NE(root.Event("first token"), nullptr);
  EXPECT_EQ(root.span.status().code(), 0u);
  for (const char* name : {"admission", "tokenise", "route", "place", "attempt"}) {
    const Received part = One(spans, name);
    EXPECT_EQ(part.span.parent_span_id(), root.span.span_id()) << name;
    EXPECT_EQ(Hex(part.span.trace_id()), kTrace) << name;
    EXPECT_GE(part.span.start_time_unix_nano(), root.span.start_time_unix_nano()) << name;
    EXPECT_LE(part.span.end_time_unix_nano(), root.span.end_time_unix_nano() + 1'000'000'000) << name;
  }
  const Received route = One(spans, "route");
  EXPECT_EQ(route.Attribute("coterie.expert"), "algebra");
  EXPECT_EQ(One(spans, "embed").span.parent_span_id(), route.span.span_id());
  // The worker is told of the attempt, whose children its spans are.
  const Received attempt = One(spans, "attempt");
  EXPECT_EQ(attempt.Attribute("coterie.worker"), "fake-0");
  EXPECT_EQ(worker_.last_submit().traceparent(),
            absl::StrCat("00-", kTrace, "-", Hex(attempt.span.span_id()), "-01"));
  EXPECT_EQ(worker_.last_submit().tracestate(), "vendor=1");
  EXPECT_EQ(worker_.last_submit().trace_id(), kTrace);
}

TEST_F(TracesTest, WhatItsCallerDoesNotTraceIsNotTraced) {
  Start(Traced(1));
  ASSERT_TRUE(AskOf(CallersHeader("00"), BaseRequest(1, 5)).status.ok());
  EXPECT_EQ(worker_.last_submit().traceparent(), "");
  ASSERT_TRUE(AskOf("", BaseRequest(2, 5)).status.ok());
  receiver_.WaitFor("Generate");
  EXPECT_EQ(receiver_.Named("Generate").size(), 1u);
}

TEST_F(TracesTest, AMalformedHeaderIsAsNone) {
  Start(Traced(0));
  v1::GenerateRequest request = BaseRequest(1, 5);
  for (const std::string& bad : {CallersHeader("0"), CallersHeader("01") + "-more", std::string("00")}) {
    ASSERT_TRUE(AskOf(bad, request).status.ok());
    EXPECT_EQ(worker_.last_submit().traceparent(), "") << bad;
    EXPECT_NE(worker_.last_submit().trace_id(), kTrace) << bad;
  }
}

TEST_F(TracesTest, ARequestsOwnTraceIdIsTakenWhereItIsOne) {
  Start(Traced(1));
  for (const std::string& own : {std::string(kTrace), std::string("my request")}) {
    v1::GenerateRequest request = BaseRequest(1, 5);
    request.mutable_context()->set_trace_id(own);
    ASSERT_TRUE(AskOf("", request).status.ok());
    EXPECT_EQ(worker_.last_submit().trace_id(), own);
  }
  const auto spans = receiver_.WaitFor("Generate", 2);
  const auto roots = receiver_.Named("Generate");
  ASSERT_EQ(roots.size(), 2u);
  EXPECT_EQ(Hex(roots[0].span.trace_id()), kTrace);
  EXPECT_NE(Hex(roots[1].span.trace_id()), kTrace);
  EXPECT_EQ(roots[1].Attribute("coterie.trace_id"), "my request");
  EXPECT_EQ(roots[1].span.parent_span_id(), "");
}

TEST_F(TracesTest, HttpHasTheSame) {
  Start(Traced(0));
  HttpClient client = Connect();
  const Reply reply = client.Post("/v1/chat/completions", Chat(1, 6),
                                  absl::StrCat("traceparent: ", CallersHeader("01"), "\r\n"));
  EXPECT_EQ(reply.code, 200);
  EXPECT_EQ(
      client.Post("/v1/route", {{"prompt", "a"}}, absl::StrCat("traceparent: ", CallersHeader("01"), "\r\n"))
          .code,
      200);
  EXPECT_EQ(client
                .Post("/v1/embeddings", {{"input", "a"}},
                      absl::StrCat("traceparent: ", CallersHeader("01"), "\r\n"))
                .code,
            200);
  for (const char* name : {"Generate", "Route", "Embed"}) {
    receiver_.WaitFor(name);
    const auto found = receiver_.Named(name);
    ASSERT_EQ(found.size(), 1u) << name;
    EXPECT_EQ(Hex(found[0].span.parent_span_id()), kCaller) << name;
  }
}

TEST_F(TracesTest, WhatGoesWrongIsSaid) {
  GatewayOptions options = Traced(1);
  Start(options);
  worker_.FailAll(grpc::StatusCode::INTERNAL, "the device is on fire");
  EXPECT_FALSE(AskOf("", BaseRequest(1, 5)).status.ok());
  const auto spans = receiver_.WaitFor("Generate");
  const Received root = One(spans, "Generate"), attempt = One(spans, "attempt");
  EXPECT_EQ(root.span.status().code(), 2u);
  EXPECT_THAT(attempt.span.status().message(), HasSubstr("on fire"));
}

TEST_F(TracesTest, AFailOverIsAnEventBetweenTwoAttempts) {
  FakeWorker::Options other;
  other.worker_id = "fake-1";
  FakeWorker second(other);
  GatewayOptions options = Traced(1);
  options.workers = absl::StrCat(worker_.address(), ",", second.address());
  Start(options);
  ASSERT_TRUE(gateway_->Ready(2));
  std::string lost;
  const Answer answer = Ask(gateway_->stub.get(), BaseRequest(5, 300), [&](const Answer& so_far) {
    if (!lost.empty() || so_far.token_ids.size() < 40) return;
    lost = so_far.route.worker();
    (lost == "fake-0" ? worker_ : second).Kill();
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  const auto spans = receiver_.WaitFor("Generate");
  const Received root = One(spans, "Generate");
  const otlp::Span::Event* moved = root.Event("fail-over");
  ASSERT_NE(moved, nullptr);
  const std::vector<Received> attempts = receiver_.Named("attempt");
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(attempts[0].Attribute("coterie.worker"), lost);
  EXPECT_EQ(attempts[0].span.status().code(), 2u);
  EXPECT_NE(attempts[1].Attribute("coterie.worker"), lost);
  EXPECT_GE(std::stoi(attempts[1].Attribute("coterie.resumed_tokens")), 40);
  EXPECT_EQ(attempts[1].span.status().code(), 0u);
  for (const Received& attempt : attempts) EXPECT_EQ(attempt.span.parent_span_id(), root.span.span_id());
  const v1::Submit& submit = (lost == "fake-0" ? second : worker_).last_submit();
  EXPECT_THAT(submit.traceparent(), HasSubstr(Hex(attempts[1].span.span_id())));
}

// As long as a request takes with a receiver that answers, give or take: a wait for one that hangs would be
// five seconds.
TEST_F(TracesTest, AReceiverThatHangsRefusesOrVanishesDelaysNoRequest) {
  OtlpReceiver::Options hangs;
  hangs.hangs = true;
  auto receiver = std::make_unique<OtlpReceiver>(hangs);
  GatewayOptions options = Traced(1);
  options.traces.endpoint = receiver->url();
  options.traces.max_spans = 100;
  Start(options);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 20; ++i) {
      const MonotonicTime begin = MonotonicNow();
      ASSERT_TRUE(AskOf("", BaseRequest(1, 5)).status.ok());
      ASSERT_LT(MonotonicNow() - begin, absl::Seconds(2));
    }
    if (round == 0) receiver.reset();  // its port refuses
  }
  EXPECT_THAT(core().metrics->registry->Text(), HasSubstr("coterie_trace_spans_total{result=\"dropped\"}"));
}

}  // namespace
}  // namespace coterie::gateway::testing
