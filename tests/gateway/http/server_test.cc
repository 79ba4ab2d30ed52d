// The HTTP listener by itself: connections, limits, time, clients that go or do not read.
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gateway/http/server/http_server.h"
#include "tests/gateway/gateway_test_base.h"
#include "tests/gateway/http/http_client.h"

namespace coterie::gateway::http {
namespace {

using testing::Eventually;
using ::testing::HasSubstr;
using testing::HttpClient;
using testing::Reply;
using ::testing::StartsWith;

constexpr char kGet[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

// Keeps every exchange until the test answers it, or answers with what the body says.
class ServerTest : public ::testing::Test {
 protected:
  void Start(HttpServerOptions options = {}, net::AcceptorOptions connections = {}) {
    options.listen = "127.0.0.1:0";
    connections.listener = "http";
    auto server = HttpServer::Start(
        std::move(options), connections,
        [this](std::shared_ptr<Exchange> exchange) {
          exchange->WhenGone([this] { ++n_gone_; });
          const HttpRequest& request = exchange->request();
          if (request.path == "/echo") {
            exchange->Respond(HttpResponse::Json(absl::StrCat(request.method, " ", request.body)));
          } else if (request.path == "/now") {
            exchange->Respond(HttpResponse::Json("now"));
          } else if (request.path == "/large") {
            exchange->Respond(HttpResponse::Json(std::string(16 << 20, 'x')));
          } else {
            MutexLock lock(&mutex_);
            held_.push_back(std::move(exchange));
          }
        },
        &registry_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::shared_ptr<Exchange> Held(size_t i) {
    EXPECT_TRUE(Eventually([&] { return n_held() > i; }));
    MutexLock lock(&mutex_);
    return held_.at(i);
  }
  size_t n_held() {
    MutexLock lock(&mutex_);
    return held_.size();
  }
  HttpClient Connect(int receive_buffer = 0) { return HttpClient(server_->port(), receive_buffer); }
  // Begins an event stream on an exchange and sends `bytes`.
  static void Stream(const std::shared_ptr<Exchange>& exchange, std::string bytes) {
    exchange->Post([exchange, bytes] {
      HttpResponse head;
      head.type = "text/event-stream";
      exchange->BeginStream(std::move(head));
      exchange->Send(bytes, [] {});
    });
  }
  static void EndStream(const std::shared_ptr<Exchange>& exchange, std::string bytes) {
    exchange->Post([exchange, bytes] {
      if (exchange->writing()) return EndStream(exchange, bytes);
      exchange->EndStream(bytes);
    });
  }
  std::string Metrics() const { return registry_.Text(); }

  MetricsRegistry registry_;
  std::atomic<int> n_gone_ = 0;
  Mutex mutex_;
  std::vector<std::shared_ptr<Exchange>> held_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<HttpServer> server_;
};

TEST_F(ServerTest, KeepsConnectionsAndAnswersInOrder) {
  Start();
  HttpClient client = Connect();
  for (int i = 0; i < 3; ++i) {
    const Reply reply = client.PostText("/echo", absl::StrCat("n", i));
    EXPECT_EQ(reply.code, 200);
    EXPECT_EQ(reply.body, absl::StrCat("POST n", i));
    EXPECT_EQ(reply.headers.count("connection"), 0u);
    EXPECT_EQ(reply.headers.at("x-request-id").size(), 32u);
    EXPECT_THAT(reply.headers.at("date"), HasSubstr(" GMT"));
  }
  std::string many;
  for (int i = 0; i < 50; ++i) many += HttpClient::PostRequest("/echo", absl::StrCat("p", i));
  client.Send(many);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.Read().body, absl::StrCat("POST p", i));
  client.Send("HEAD /echo HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n");
  const Reply head = client.Read(absl::Seconds(20), /*is_head=*/true);
  EXPECT_EQ(head.headers.at("content-length"), "5");
  EXPECT_EQ(head.headers.at("x-request-id"), "mine");
  EXPECT_EQ(client.Get("/now").body, "now");  // and no body stood between
  client.Send("GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.Read().headers.at("connection"), "close");
  EXPECT_TRUE(client.ClosedWithin(absl::Seconds(10)));
  EXPECT_EQ(n_gone_, 0);
}

TEST_F(ServerTest, AnUpgradeIsNotTaken) {
  Start();
  HttpClient client = Connect();
  client.Send(
      "GET /now HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
      "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n");
  EXPECT_EQ(client.Read().code, 200);
  EXPECT_EQ(client.Get("/now").code, 200);
}

TEST_F(ServerTest, RefusesWithAnErrorObjectAndCloses) {
  Start();
  struct Case {
    int code;
    std::string bytes;
  };
  const Case cases[] = {
      {400, "nonsense\r\n\r\n"},
      {400, "\x16\x03\x01\x02\x00\x01\x00 a TLS hello\r\n\r\n"},
      {505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
      {414, "GET /" + std::string(20'000, 'a') + " HTTP/1.1\r\n"},
      {431, "GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(20'000, 'a') + "\r\n\r\n"},
      {413, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n"},
      {501, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"},
      {400, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"},
  };
  for (const Case& c : cases) {
    HttpClient client = Connect();
    client.Send(c.bytes);
    const Reply reply = client.Read();
    EXPECT_EQ(reply.code, c.code) << c.bytes.substr(0, 60);
    EXPECT_FALSE(reply.Json()["error"]["message"].get<std::string>().empty());
    EXPECT_TRUE(reply.Json()["error"]["param"].is_null());
    EXPECT_EQ(reply.headers.at("connection"), "close");
    EXPECT_EQ(reply.headers.at("x-request-id").size(), 32u);
    EXPECT_TRUE(client.ClosedWithin(absl::Seconds(10)));
  }
  HttpClient client = Connect();
  EXPECT_EQ(client.Get("/now").code, 200);
  EXPECT_THAT(Metrics(), HasSubstr("coterie_http_requests_total{code=\"431\",route=\"refused\"} 1"));
}

// The client is in the middle of a large body: the refusal must reach it all the same.
TEST_F(ServerTest, ARefusalReachesAClientThatGoesOnSending) {
  Start();
  HttpClient client = Connect();
  client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n");
  for (int i = 0; i < 16; ++i) client.Send(std::string(64 << 10, 'x'));
  EXPECT_EQ(client.Read().code, 413);
}

TEST_F(ServerTest, SlowHeadsAndBodiesAreGivenUp) {
  HttpServerOptions options;
  options.head_timeout = absl::Milliseconds(300);
  options.body_timeout = absl::Milliseconds(300);
  Start(options);
  HttpClient half = Connect();
  half.Send("GET /now HT");
  HttpClient dripping = Connect();
  std::thread drip([&] {  // a byte now and then, for longer than the time there is
    for (int i = 0; i < 200 && dripping.Send("G"); ++i) absl::SleepFor(absl::Milliseconds(20));
  });
  HttpClient body = Connect();
  body.Send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhal");
  EXPECT_EQ(half.Read().code, 408);
  EXPECT_TRUE(half.ClosedWithin(absl::Seconds(10)));
  EXPECT_EQ(body.Read().code, 408);
  EXPECT_EQ(dripping.Read().code, 408);
  EXPECT_TRUE(dripping.ClosedWithin(absl::Seconds(10)));
  drip.join();
}

TEST_F(ServerTest, IdleConnectionsAreClosedWithoutAWord) {
  HttpServerOptions options;
  options.idle_timeout = absl::Milliseconds(200);
  Start(options);
  HttpClient client = Connect();
  EXPECT_EQ(client.Get("/now").code, 200);
  EXPECT_EQ(client.Read(absl::Seconds(10)).code, 0);
  EXPECT_TRUE(client.ClosedWithin(absl::Seconds(10)));
}

TEST_F(ServerTest, SaysContinueWhereTheClientWaits) {
  Start();
  HttpClient client = Connect();
  client.Send("POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  EXPECT_EQ(client.Read().code, 100);
  client.Send("abc");
  EXPECT_EQ(client.Read().body, "POST abc");
}

TEST_F(ServerTest, AllBodiesTogetherAreBounded) {
  HttpServerOptions options;
  options.max_bodies_bytes = 100'000;
  Start(options);
  HttpClient holder = Connect();
  holder.Send(HttpClient::PostRequest("/hold", std::string(80'000, 'x')));
  Held(0);
  HttpClient client = Connect();
  Reply refused = client.PostText("/echo", std::string(30'000, 'y'));
  EXPECT_EQ(refused.code, 503);
  EXPECT_EQ(refused.headers.at("retry-after"), "1");
  Held(0)->Respond(HttpResponse::Json("done"));
  EXPECT_EQ(holder.Read().body, "done");
  HttpClient again = Connect();
  EXPECT_EQ(again.PostText("/echo", std::string(30'000, 'y')).code, 200);
  EXPECT_TRUE(Eventually([&] { return Metrics().find("coterie_http_body_bytes 0\n") != std::string::npos; }));
}

TEST_F(ServerTest, StreamsInChunksAndKeepsTheConnection) {
  Start();
  HttpClient client = Connect();
  client.Send(kGet);
  Stream(Held(0), "data: 1\n\n");
  EXPECT_TRUE(client.ReadUntil("data: 1\n\n"));
  EXPECT_THAT(Metrics(), HasSubstr("coterie_http_streams 1"));
  EndStream(Held(0), "data: 2\n\n");
  const Reply reply = client.Read();
  EXPECT_TRUE(reply.chunked && reply.complete);
  EXPECT_EQ(reply.body, "data: 1\n\ndata: 2\n\n");
  EXPECT_EQ(client.Get("/now").code, 200);
  EXPECT_THAT(Metrics(), HasSubstr("coterie_http_streams 0"));
}

TEST_F(ServerTest, AStreamToHttp10EndsWithItsConnection) {
  Start();
  HttpClient client = Connect();
  client.Send("GET / HTTP/1.0\r\n\r\n");
  Stream(Held(0), "one");
  EndStream(Held(0), "two");
  const Reply reply = client.Read();
  EXPECT_FALSE(reply.chunked);
  EXPECT_EQ(reply.body, "onetwo");
  EXPECT_EQ(reply.headers.at("connection"), "close");
}

TEST_F(ServerTest, SilentStreamsGetComments) {
  HttpServerOptions options;
  options.comment_interval = absl::Milliseconds(50);
  Start(options);
  HttpClient client = Connect();
  client.Send(kGet);
  absl::SleepFor(absl::Milliseconds(200));  // nothing has begun: no comments
  Stream(Held(0), "data: 1\n\n");
  EXPECT_TRUE(client.ReadUntil(": keep-alive\n\n\r\n"));
  EndStream(Held(0), "data: 2\n\n");
  const Reply reply = client.Read();
  EXPECT_TRUE(reply.complete);
  EXPECT_THAT(reply.body, StartsWith("data: 1\n\n: keep-alive\n\n"));
  EXPECT_THAT(reply.Events(), ::testing::ElementsAre("1", "2"));
}

TEST_F(ServerTest, AClientThatGoesIsNoticedAtOnceWhateverItWaitsFor) {
  Start();
  int n = 0;
  const auto expect_gone = [&] {
    ++n;
    EXPECT_TRUE(Eventually([&] { return n_gone_ == n; })) << n;
  };
  {
    HttpClient client = Connect();
    client.Send(kGet);
    Held(0);
  }
  expect_gone();
  HttpClient reset = Connect();
  reset.Send(kGet);
  Held(1);
  reset.Reset();
  expect_gone();
  HttpClient half = Connect();  // only its sending side: the same
  half.Send(kGet);
  Held(2);
  half.FinishSending();
  expect_gone();
  HttpClient streaming = Connect();
  streaming.Send(kGet);
  Stream(Held(3), "data: 1\n\n");
  EXPECT_TRUE(streaming.ReadUntil("data: 1"));
  streaming.Close();
  expect_gone();
  // What comes for those that went is dropped.
  for (size_t i = 0; i < 4; ++i) Held(i)->Respond(HttpResponse::Json("late"));
  HttpClient client = Connect();
  EXPECT_EQ(client.Get("/now").body, "now");
  EXPECT_THAT(Metrics(), HasSubstr("coterie_http_requests_total{code=\"499\",route=\"other\"} 4"));
}

// It sends far ahead, so that the end of what it sent cannot be read before its answer is there.
TEST_F(ServerTest, AClientThatSendsAheadIsBoundedAndItsLeavingNoticed) {
  Start();
  auto client = std::make_unique<HttpClient>(server_->port());
  client->Send(kGet);
  Held(0);
  std::thread sender([&] { client->Send(std::string(64 << 20, 'G')); });  // blocks: nobody reads it
  absl::SleepFor(absl::Milliseconds(300));
  EXPECT_EQ(n_gone_, 0);
  client->FinishSending();
  sender.join();
  client.reset();
  EXPECT_TRUE(Eventually([&] { return n_gone_ == 1; }));
}

TEST_F(ServerTest, AClientThatReadsNothingIsCutOff) {
  HttpServerOptions options;
  options.stall_timeout = absl::Milliseconds(500);
  options.send_buffer_bytes = 16 << 10;
  Start(options);
  HttpClient client = Connect(/*receive_buffer=*/16 << 10);
  client.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(Eventually([&] { return n_gone_ == 1; }));
  // One that reads slowly, but reads, gets it all.
  HttpClient slow = Connect();
  slow.Send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(slow.Read().body.size(), size_t{16} << 20);
}

TEST_F(ServerTest, OnLoopbackAForeignNameIsRefused) {
  HttpServerOptions options;
  options.allowed_hosts = {"api.example.com"};
  Start(options);
  const auto code = [&](const std::string& headers) {
    HttpClient client = Connect();
    client.Send(absl::StrCat("GET /now HTTP/1.", headers.empty() ? "0" : "1", "\r\n", headers, "\r\n"));
    return client.Read().code;
  };
  for (const char* host : {"127.0.0.1:7080", "localhost:7080", "a", "[::1]:7080", "api.example.com"}) {
    EXPECT_EQ(code(absl::StrCat("Host: ", host, "\r\n")), 200) << host;
  }
  EXPECT_EQ(code(""), 200);
  HttpClient client = Connect();
  client.Send("GET /now HTTP/1.1\r\nHost: evil.example.com:7080\r\n\r\n");
  const Reply refused = client.Read();
  EXPECT_EQ(refused.code, 403);
  EXPECT_THAT(refused.Json()["error"]["message"], HasSubstr("\"evil.example.com:7080\""));
  EXPECT_EQ(client.Get("/now").code, 200);  // the connection goes on
}

TEST_F(ServerTest, TheFirstAnswerCounts) {
  Start();
  HttpClient client = Connect();
  client.Send(kGet);
  const auto exchange = Held(0);
  exchange->Respond(HttpResponse::Json("first"));
  exchange->Respond(HttpResponse::Json("second"));
  EXPECT_EQ(client.Read().body, "first");
  exchange->Respond(HttpResponse::Json("third"));
  EXPECT_EQ(client.Get("/now").body, "now");
}

TEST_F(ServerTest, PlacesAreGivenByIdleConnections) {
  net::AcceptorOptions connections;
  connections.max_connections = 4;
  connections.max_per_client = 4;
  connections.settle = absl::ZeroDuration();
  Start({}, connections);
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server_->port()));
    clients.back()->Send(kGet);
    Held(static_cast<size_t>(i));
  }
  // All are busy: a newcomer is told.
  HttpClient refused = Connect();
  refused.Send(kGet);
  const Reply reply = refused.Read();
  EXPECT_EQ(reply.code, 503);
  EXPECT_THAT(reply.Json()["error"]["message"].get<std::string>(), HasSubstr("too many connections"));
  // One becomes idle, and gives its place.
  Held(0)->Respond(HttpResponse::Json("done"));
  EXPECT_EQ(clients[0]->Read().body, "done");
  bool served = false;
  EXPECT_TRUE(Eventually([&] {
    HttpClient newcomer = Connect();
    served = newcomer.Get("/now").code == 200;
    return served;
  }));
  EXPECT_TRUE(clients[0]->ClosedWithin(absl::Seconds(10)));
}

TEST_F(ServerTest, DrainsCleanly) {
  Start();
  HttpClient idle = Connect();
  EXPECT_EQ(idle.Get("/now").code, 200);
  HttpClient busy = Connect();
  busy.Send(kGet);
  const auto exchange = Held(0);
  server_->BeginDrain();
  EXPECT_TRUE(idle.ClosedWithin(absl::Seconds(10)));
  HttpClient late = Connect();  // still listening: it can be told
  EXPECT_EQ(late.Get("/now").headers.at("connection"), "close");
  std::atomic<int> drained = -1;
  std::thread drain([&] { drained = server_->Drain(absl::Seconds(20)) ? 1 : 0; });
  absl::SleepFor(absl::Milliseconds(100));
  EXPECT_EQ(drained, -1);
  exchange->Respond(HttpResponse::Json("done"));
  drain.join();
  EXPECT_EQ(drained, 1);
  const Reply reply = busy.Read();
  EXPECT_EQ(reply.body, "done");
  EXPECT_EQ(reply.headers.at("connection"), "close");
}

TEST_F(ServerTest, EndsUnderFireAndExchangesOutliveIt) {
  Start();
  std::vector<std::unique_ptr<HttpClient>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(std::make_unique<HttpClient>(server_->port()));
    clients.back()->Send(i % 2 == 0 ? kGet : "GET /half");
  }
  Held(9);
  server_.reset();
  EXPECT_EQ(n_gone_, 10);
  MutexLock lock(&mutex_);
  for (const auto& exchange : held_) {
    exchange->Respond(HttpResponse::Json("late"));
    exchange->WhenGone([] { FAIL() << "of a server that is gone"; });
  }
}

}  // namespace
}  // namespace coterie::gateway::http
