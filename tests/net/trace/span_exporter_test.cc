#include "net/trace/span_exporter.h"

#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "common/unix_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "net/listen_socket.h"
#include "net/tls_context.h"
#include "net/trace/otlp_endpoint.h"
#include "tests/net/certificates.h"
#include "tests/net/trace/otlp_receiver.h"

namespace coterie::net {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::OtlpReceiver;

SpanExporterOptions To(const std::string& url) {
  SpanExporterOptions options;
  options.endpoint = url;
  options.service = {"tested", "here", "0"};
  options.batch_delay = absl::Milliseconds(20);
  options.post_timeout = absl::Milliseconds(300);
  options.first_retry = absl::Milliseconds(20);
  options.last_post_timeout = absl::Milliseconds(500);
  return options;
}

std::vector<Span> Spans(size_t n) {
  std::vector<Span> spans(n);
  for (Span& span : spans) {
    span.trace = TraceId::Draw();
    span.id = SpanId::Draw();
    span.name = "made";
    span.begin = span.end = MonotonicNow();
  }
  return spans;
}

class SpanExporterTest : public ::testing::Test {
 protected:
  std::unique_ptr<SpanExporter> Start(const SpanExporterOptions& options) {
    auto started = SpanExporter::Start(options, &registry_);
    EXPECT_TRUE(started.ok()) << started.status();
    return *std::move(started);
  }
  double Counted(const std::string& result) {
    return registry_.Counter("coterie_trace_spans_total", "", {{"result", result}}).Value();
  }

  MetricsRegistry registry_;
};

TEST_F(SpanExporterTest, SendsEveryFieldAsOtlpHasIt) {
  const OtlpReceiver receiver;
  Span span = Spans(1)[0];
  span.parent = SpanId::Draw();
  span.state = "vendor=1";
  span.name = "place";
  span.kind = SpanKind::kClient;
  span.begin = span.end - absl::Milliseconds(250);
  span.attributes = {{"text", "wörd"}, {"flag", true}, {"count", 42}, {"share", 0.5}};
  span.events = {{"moved", span.end, {{"why", "gone"}}}};
  span.status = absl::UnavailableError("no worker");
  const int64_t now = UnixNanos();
  {
    const auto exporter = Start(To(receiver.url()));
    exporter->Take({span});
  }
  const auto received = receiver.WaitFor("place");
  ASSERT_EQ(received.size(), 1u);
  const otlp::Span& told = received[0].span;
  EXPECT_EQ(received[0].service, "tested");
  EXPECT_EQ(told.trace_id(), std::string(span.trace.bytes.begin(), span.trace.bytes.end()));
  EXPECT_EQ(told.span_id(), std::string(span.id.bytes.begin(), span.id.bytes.end()));
  EXPECT_EQ(told.parent_span_id(), std::string(span.parent.bytes.begin(), span.parent.bytes.end()));
  EXPECT_EQ(told.trace_state(), "vendor=1");
  EXPECT_EQ(told.kind(), 3u);
  EXPECT_EQ(told.end_time_unix_nano() - told.start_time_unix_nano(), 250'000'000u);
  EXPECT_NEAR(static_cast<double>(told.end_time_unix_nano()), static_cast<double>(now), 60e9);
  EXPECT_EQ(received[0].Attribute("text"), "wörd");
  EXPECT_EQ(received[0].Attribute("flag"), "true");
  EXPECT_EQ(received[0].Attribute("count"), "42");
  EXPECT_EQ(received[0].Attribute("share"), "0.500000");
  ASSERT_NE(received[0].Event("moved"), nullptr);
  EXPECT_EQ(told.status().code(), 2u);
  EXPECT_EQ(told.status().message(), "no worker");
  EXPECT_THAT(receiver.last_head(), HasSubstr("POST /v1/traces HTTP/1.1\r\n"));
  EXPECT_THAT(receiver.last_head(), HasSubstr("Content-Type: application/x-protobuf"));
  EXPECT_EQ(Counted("sent"), 1);
}

TEST_F(SpanExporterTest, GathersRequestsIntoBatches) {
  const OtlpReceiver receiver;
  SpanExporterOptions options = To(receiver.url());
  options.batch_delay = absl::Seconds(10);
  options.max_batch_spans = 100;
  const auto exporter = Start(options);
  for (int i = 0; i < 40; ++i) exporter->Take(Spans(5));
  EXPECT_EQ(receiver.WaitFor("made", 200).size(), 200u);
  EXPECT_LE(receiver.n_posts(), 4u);
}

TEST_F(SpanExporterTest, TriesAgainWhatMayPassAndGivesUpWhatDoesNot) {
  for (const auto& [statuses, n_sent, n_posts] :
       {std::tuple(std::vector<int>{503, 429}, 3u, 3u), std::tuple(std::vector<int>{400}, 0u, 1u),
        std::tuple(std::vector<int>(10, 502), 0u, 5u)}) {
    OtlpReceiver::Options options;
    options.statuses = statuses;
    const OtlpReceiver receiver(options);
    const double lost_before = Counted("lost"), sent_before = Counted("sent");
    const auto exporter = Start(To(receiver.url()));
    exporter->Take(Spans(3));
    while (Counted("lost") + Counted("sent") < lost_before + sent_before + 3)
      absl::SleepFor(absl::Milliseconds(5));
    EXPECT_EQ(receiver.spans().size(), n_sent);
    EXPECT_EQ(receiver.n_posts(), n_posts);
    EXPECT_EQ(Counted("sent") - sent_before, n_sent);
    EXPECT_EQ(Counted("lost") - lost_before, 3 - n_sent);
  }
}

TEST_F(SpanExporterTest, CountsWhatTheReceiverRefusesOfARequest) {
  OtlpReceiver::Options options;
  options.rejects = 2;
  const OtlpReceiver receiver(options);
  {
    const auto exporter = Start(To(receiver.url()));
    exporter->Take(Spans(5));
  }
  EXPECT_EQ(Counted("sent"), 3);
  EXPECT_EQ(Counted("lost"), 2);
}

// One that reads and never answers, one whose port is closed, one whose name nobody knows: no call waits,
// what finds no room is counted, and the end is bounded.
TEST_F(SpanExporterTest, AReceiverThatIsNotThereCostsNobodyAnything) {
  OtlpReceiver::Options hangs;
  hangs.hangs = true;
  const OtlpReceiver hanging(hangs);
  const int closed = Listen("127.0.0.1:0")->port;
  for (const std::string& url : {hanging.url(), "http://127.0.0.1:" + std::to_string(closed),
                                 std::string("http://nobody.invalid:4318")}) {
    const double before = Counted("dropped");
    SpanExporterOptions options = To(url);
    options.max_spans = 1000;
    options.max_tries = 2;
    options.first_retry = absl::Seconds(30);
    auto exporter = Start(options);
    absl::Duration longest;
    for (int i = 0; i < 500; ++i) {
      std::vector<Span> spans = Spans(5);
      const MonotonicTime begin = MonotonicNow();
      exporter->Take(std::move(spans));
      longest = std::max(longest, MonotonicNow() - begin);
    }
    EXPECT_LT(longest, absl::Milliseconds(100)) << url;  // a wait would be 300
    EXPECT_GT(Counted("dropped"), before) << url;
    const MonotonicTime begin = MonotonicNow();
    exporter.reset();
    EXPECT_LT(MonotonicNow() - begin, absl::Seconds(5)) << url;
  }
  EXPECT_EQ(Counted("sent"), 0);
}

TEST_F(SpanExporterTest, AReceiverThatComesBackGetsWhatWaits) {
  const int port = Listen("127.0.0.1:0")->port;
  SpanExporterOptions options = To("http://127.0.0.1:" + std::to_string(port));
  options.max_tries = 100;
  options.first_retry = absl::Milliseconds(10);
  const auto exporter = Start(options);
  exporter->Take(Spans(3));
  absl::SleepFor(absl::Milliseconds(60));
  OtlpReceiver::Options here;
  here.port = port;
  const OtlpReceiver receiver(here);
  EXPECT_EQ(receiver.WaitFor("made", 3).size(), 3u);
}

TEST_F(SpanExporterTest, SpeaksTlsToThoseThatItsAuthorityVouchesFor) {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("coterie-otlp-" + std::to_string(getpid()));
  Certificates certificates(folder);
  certificates.Make("receiver");
  certificates.Make("stranger", {.ca = "others"});
  certificates.Make("elsewhere", {.names = "DNS:elsewhere.example"});
  for (const auto& [name, is_taken] :
       {std::pair("receiver", true), {"stranger", false}, {"elsewhere", false}}) {
    const auto identity = TlsIdentity::Start(certificates.Options(name, ""), nullptr);
    ASSERT_TRUE(identity.ok()) << identity.status();
    OtlpReceiver::Options options;
    options.tls = *MakeServerContext(*(*identity)->Current());
    const OtlpReceiver receiver(options);
    SpanExporterOptions to = To(receiver.url());
    to.ca_file = certificates.Pem("ca");
    to.max_tries = 1;
    to.post_timeout = absl::Seconds(5);
    to.last_post_timeout = absl::Seconds(5);
    const double before = Counted("sent");
    {
      const auto exporter = Start(to);
      exporter->Take(Spans(4));
    }
    EXPECT_EQ(receiver.spans().size(), is_taken ? 4u : 0u) << name;
    EXPECT_EQ(Counted("sent") - before, is_taken ? 4 : 0) << name;
  }
  const SpanExporterOptions not_pem = [&] {
    SpanExporterOptions options = To("https://127.0.0.1:1");
    options.ca_file = certificates.Key("ca");
    return options;
  }();
  EXPECT_THAT(SpanExporter::Start(not_pem, &registry_).status().ToString(),
              HasSubstr("no certificates in PEM"));
  std::filesystem::remove_all(folder);
}

TEST_F(SpanExporterTest, SendsTheHeadersOfAFileAsTheyAreNow) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / ("coterie-otlp-headers-" + std::to_string(getpid()));
  const auto write = [&file](const char* text) { std::ofstream(file) << text; };
  const OtlpReceiver receiver;
  SpanExporterOptions options = To(receiver.url());
  options.headers_file = file;
  write("Authorization: Bearer first\n\nx-scope: a:b\n");
  const auto exporter = Start(options);
  exporter->Take(Spans(1));
  receiver.WaitFor("made", 1);
  EXPECT_THAT(receiver.last_head(), HasSubstr("\r\nAuthorization: Bearer first\r\nx-scope: a:b\r\n"));
  write("Authorization: Bearer second\n");
  exporter->Take(Spans(1));
  receiver.WaitFor("made", 2);
  EXPECT_THAT(receiver.last_head(), HasSubstr("\r\nAuthorization: Bearer second\r\n"));
  for (const char* bad : {"Bearer secret", "a b: secret", ": secret", "a: secret\x01"}) {
    write(bad);
    const Status refused = SpanExporter::Start(options, &registry_).status();
    EXPECT_THAT(std::string(refused.message()), HasSubstr("line 1 is no header")) << bad;
    EXPECT_FALSE(absl::StrContains(refused.message(), "secret")) << refused;
  }
  std::filesystem::remove(file);
  EXPECT_FALSE(SpanExporter::Start(options, &registry_).ok());
}

TEST(OtlpEndpointTest, ReadsUrlsAsOthersDo) {
  const auto parts = [](const char* url) {
    const auto endpoint = OtlpEndpoint::Parse(url);
    EXPECT_TRUE(endpoint.ok()) << endpoint.status();
    return std::vector<std::string>{endpoint->tls ? "tls" : "", endpoint->host, endpoint->port,
                                    endpoint->path, endpoint->authority};
  };
  EXPECT_THAT(parts("http://collector:4318"),
              ElementsAre("", "collector", "4318", "/v1/traces", "collector:4318"));
  EXPECT_THAT(parts("https://otlp.example/tempo/"),
              ElementsAre("tls", "otlp.example", "443", "/tempo/v1/traces", "otlp.example"));
  EXPECT_THAT(parts("http://[::1]:4318/"), ElementsAre("", "::1", "4318", "/v1/traces", "[::1]:4318"));
  for (const char* bad :
       {"", "collector:4318", "grpc://collector:4317", "http://", "http://:4318", "http://a:", "http://a:0",
        "http://a:65536", "http://a:4318x", "http://a/?b", "http://a/#b", "http://a b", "http://[::1",
        "http://[::1]x", "http://a:1\r\nb: c"}) {
    EXPECT_EQ(OtlpEndpoint::Parse(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  const Status secret = OtlpEndpoint::Parse("https://user:pass@host").status();
  EXPECT_FALSE(absl::StrContains(secret.message(), "pass@")) << secret;
  EXPECT_FALSE(secret.ok());
}

}  // namespace
}  // namespace coterie::net
