#include "net/metrics_server.h"

#include <list>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/net/raw_client.h"

namespace coterie::net {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::RawClient;
using ::testing::StartsWith;

class MetricsServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    registry_.Counter("coterie_things_total", "Things.").Increment(3);
    auto server = MetricsServer::Start(&registry_, "127.0.0.1:0");
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  std::string Ask(std::string_view request) {
    RawClient client(server_->port());
    client.Send(request);
    return client.ReadAll();
  }

  MetricsRegistry registry_;
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, ServesThePage) {
  EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), HasSubstr("text/plain; version=0.0.4"),
                    HasSubstr("\ncoterie_things_total 3\n"),
                    HasSubstr("coterie_connections_limit{listener=\"metrics\"} 32")));
  EXPECT_THAT(Ask("GET /metrics?name=x HTTP/1.0\r\n\r\n"), HasSubstr("coterie_things_total 3"));
  EXPECT_THAT(Ask("HEAD /metrics HTTP/1.1\r\n\r\n"),
              AllOf(StartsWith("HTTP/1.1 200 OK\r\n"), EndsWith("\r\n\r\n")));
}

TEST_F(MetricsServerTest, RefusesWhatItDoesNotServe) {
  EXPECT_THAT(Ask("GET / HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Ask("POST /metrics HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(Ask("GET\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(Ask(std::string_view("\x16\x03\x01", 3)), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(Ask(std::string(20'000, 'A')), Not(StartsWith("HTTP/1.1 200 ")));
}

TEST_F(MetricsServerTest, SilentConnectionsKeepNobodyFromThePage) {
  std::list<RawClient> silent;
  for (int i = 0; i < 200; ++i) {
    silent.emplace_back(server_->port());
    silent.back().Send("GET /met");
  }
  for (int i = 0; i < 20; ++i) {
    EXPECT_THAT(Ask("GET /metrics HTTP/1.1\r\n\r\n"), HasSubstr("coterie_things_total 3"));
  }
}

TEST_F(MetricsServerTest, ATakenPortIsNamed) {
  const std::string address = "127.0.0.1:" + std::to_string(server_->port());
  const auto second = MetricsServer::Start(&registry_, address);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(address));
}

}  // namespace
}  // namespace coterie::net
