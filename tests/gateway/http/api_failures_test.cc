// What goes wrong around an answer over HTTP: no worker, no place, no time; clients that go, do not read, or
// are many.
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "net/descriptors.h"
#include "tests/gateway/http/api_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

class ApiFailuresTest : public ApiTest {};

TEST_F(ApiFailuresTest, WithoutAWorkerAStreamHasItsRealStatus) {
  GatewayOptions options = HttpOptions({"127.0.0.1:1"});
  options.session.worker_wait = absl::Milliseconds(100);
  gateway_ = std::make_unique<TestGateway>(options);
  for (const bool stream : {false, true}) {
    const Reply reply = Post("/v1/chat/completions", Chat(1, 5, {{"stream", stream}}));
    ExpectError(reply, 503, "127.0.0.1:1");
    EXPECT_EQ(reply.headers.at("x-should-retry"), "true");
    EXPECT_EQ(reply.headers.at("retry-after"), "1");
  }
}

TEST_F(ApiFailuresTest, AFullGatewaySaysWhenToComeBack) {
  GatewayOptions options = HttpOptions({worker_.address()});
  options.admission.max_running = 1;
  options.admission.max_waiting = 0;
  Start(options);
  HttpClient holder = Connect();
  holder.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(1, 4000, {{"stream", true}}).dump()));
  ASSERT_TRUE(holder.ReadUntil("data: "));
  const Reply refused = Post("/v1/chat/completions", Chat(1, 5, {{"stream", true}}));
  ExpectError(refused, 429, "the gateway's queue is full");
  EXPECT_EQ(refused.Json()["error"]["code"], "rate_limit_exceeded");
  int after = 0, after_ms = 0;
  EXPECT_TRUE(absl::SimpleAtoi(refused.headers.at("retry-after"), &after));
  EXPECT_TRUE(absl::SimpleAtoi(refused.headers.at("retry-after-ms"), &after_ms));
  EXPECT_GE(after, 1);
  EXPECT_GE(after_ms, 100);
  // With several choices one refusal is the request's, and what was begun of it ends.
  EXPECT_TRUE(Eventually([&] { return core().admission->running() == 1; }));
}

TEST_F(ApiFailuresTest, TimeThatIsOverIs408) {
  GatewayOptions options = HttpOptions({worker_.address()});
  options.limits.max_time = absl::Milliseconds(200);
  Start(options);
  const Reply reply = Post("/v1/chat/completions", Chat(1, 4000));
  ExpectError(reply, 408, "the request's time was over");
  EXPECT_EQ(reply.headers.at("x-should-retry"), "false");
}

TEST_F(ApiFailuresTest, AnErrorBehindTheFirstTokenIsAnEventAndTheEnd) {
  GatewayOptions options = HttpOptions({worker_.address()});
  options.limits.max_time = absl::Milliseconds(300);
  Start(options);
  const Reply reply = Post("/v1/chat/completions", Chat(1, 4000, {{"stream", true}}));
  EXPECT_EQ(reply.code, 200);
  EXPECT_TRUE(reply.complete);
  const json last = json::parse(reply.Events().back());
  EXPECT_THAT(last["error"]["message"].get<std::string>(), HasSubstr("time was over"));
  EXPECT_EQ(last["error"]["type"], "timeout_error");
  EXPECT_FALSE(absl::StrContains(reply.body, "[DONE]"));
}

TEST_F(ApiFailuresTest, AClientThatGoesCancelsWhateverItsAnswerIsDoing) {
  GatewayOptions options = HttpOptions({worker_.address()});
  options.admission.max_running = 2;
  Start(options);
  HttpClient streamed = Connect(), whole = Connect(), queued = Connect(), queued_stream = Connect();
  streamed.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(1, 4000, {{"stream", true}}).dump()));
  ASSERT_TRUE(streamed.ReadUntil("data: "));
  whole.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(2, 4000).dump()));
  ASSERT_TRUE(Eventually([&] { return worker_.live_sequences() == 2; }));
  queued.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(3, 4000).dump()));
  queued_stream.Send(
      HttpClient::PostRequest("/v1/chat/completions", Chat(3, 4000, {{"stream", true}}).dump()));
  ASSERT_TRUE(Eventually([&] { return core().admission->waiting() == 2; }));
  queued.Close();
  queued_stream.Reset();
  EXPECT_TRUE(Eventually([&] { return core().admission->waiting() == 0; }));
  EXPECT_EQ(worker_.submits(), 2u);
  whole.Close();
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 1; }));
  streamed.Close();
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 0; }));
  EXPECT_TRUE(Eventually([&] { return core().admission->idle(); }));
  EXPECT_EQ(worker_.cancels(), 2u);
}

TEST_F(ApiFailuresTest, SeveralChoicesAreCancelledTogether) {
  Start();
  HttpClient client = Connect();
  client.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(1, 4000, {{"n", 4}}).dump()));
  ASSERT_TRUE(Eventually([&] { return worker_.live_sequences() == 4; }));
  client.Close();
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 0; }));
}

TEST_F(ApiFailuresTest, ASlowReaderHoldsItsWorkerBackAndLosesNothing) {
  FakeWorker::Options quick;
  quick.step = absl::Milliseconds(1);
  FakeWorker worker(quick);
  GatewayOptions options = HttpOptions({worker.address()});
  options.session.window_tokens = 32;
  options.http.send_buffer_bytes = 16 << 10;
  Start(options);
  HttpClient client = Connect(/*receive_buffer=*/16 << 10);
  const json body = Chat(1, 4000, {{"stream", true}, {"logprobs", true}, {"top_logprobs", 20}});
  client.Send(HttpClient::PostRequest("/v1/chat/completions", body.dump()));
  EXPECT_TRUE(Eventually(
      [&] {
        const uint64_t now = worker.tokens_sent();
        absl::SleepFor(absl::Milliseconds(200));
        return now > 0 && worker.tokens_sent() == now;
      },
      absl::Seconds(30)));
  EXPECT_LT(worker.tokens_sent(), 4000u);
  EXPECT_EQ(TextsOf(client.Read(), 1, true)[0], FakeText(1, 4000));
}

TEST_F(ApiFailuresTest, AWorkerLostInTheMiddleIsAComment) {
  FakeWorker other({.worker_id = "fake-1"});
  Start(HttpOptions({worker_.address(), other.address()}));
  ASSERT_TRUE(gateway_->Ready(2));
  HttpClient client = Connect();
  client.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(4, 400, {{"stream", true}}).dump()));
  ASSERT_TRUE(client.ReadUntil("data: "));
  (worker_.live_sequences() > 0 ? worker_ : other).Kill();
  const Reply reply = client.Read();
  EXPECT_EQ(TextsOf(reply, 1, true)[0], FakeText(4, 400));
  EXPECT_THAT(reply.body, HasSubstr("\n\n: "));
}

TEST_F(ApiFailuresTest, DrainsAsGrpcDoes) {
  Start();
  HttpClient client = Connect();
  client.Send(HttpClient::PostRequest("/v1/chat/completions", Chat(1, 3000, {{"stream", true}}).dump()));
  ASSERT_TRUE(client.ReadUntil("data: "));
  std::thread drain([&] { EXPECT_TRUE(gateway_->server->Drain(absl::Seconds(120))); });
  EXPECT_TRUE(Eventually([&] { return Connect().Get("/ready").code == 503; }));
  ExpectError(Post("/v1/chat/completions", Chat(1, 5)), 503, "draining");
  EXPECT_EQ(TextsOf(client.Read(), 1, true)[0], FakeText(1, 3000));
  EXPECT_TRUE(client.ClosedWithin(absl::Seconds(10)));
  drain.join();
}

// Threads and answers, however many connections there are.
TEST_F(ApiFailuresTest, ManyIdleAndManyStreamingConnections) {
  net::RaiseDescriptorLimit();
  const auto n_threads = [] {
    size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/task"))
      n += entry.is_directory();
    return n;
  };
  GatewayOptions options = HttpOptions({});
  FakeWorker::Options roomy;
  roomy.max_waiting = 1000;
  roomy.step = absl::Milliseconds(20);
  FakeWorker worker(roomy);
  options.workers = worker.address();
  Start(options);
  EXPECT_EQ(Connect().Get("/health").code, 200);
  const size_t threads_before = n_threads();
  std::vector<std::unique_ptr<HttpClient>> idle, streaming;
  for (int i = 0; i < 200; ++i) {
    idle.push_back(std::make_unique<HttpClient>(port()));
    EXPECT_EQ(idle.back()->Get("/health").code, 200);
  }
  for (uint64_t i = 0; i < 100; ++i) {
    streaming.push_back(std::make_unique<HttpClient>(port()));
    streaming.back()->Send(
        HttpClient::PostRequest("/v1/chat/completions", Chat(i, 20, {{"stream", true}}).dump()));
  }
  for (auto& client : streaming) EXPECT_TRUE(client->ReadUntil("data: "));
  EXPECT_LE(n_threads(), threads_before + 32);  // gRPC's own, between gateway and worker
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(TextsOf(streaming[i]->Read(), 1, true)[0], FakeText(i, 20));
  for (auto& client : idle) EXPECT_EQ(client->Get("/health").code, 200);
}

}  // namespace
}  // namespace coterie::gateway::testing
