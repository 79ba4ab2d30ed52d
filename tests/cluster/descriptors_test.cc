// Many more connections than descriptors: those who ask are answered.
#include "net/descriptors.h"

#include <sys/resource.h>

#include <deque>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/net/raw_client.h"

namespace coterie::cluster {
namespace {

using net::testing::RawClient;
using ::testing::HasSubstr;

constexpr int kDescriptors = 1024;
constexpr size_t kIdle = 5000;
constexpr size_t kHonest = 24;
constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr std::string_view kEmptySettings("\0\0\0\4\0\0\0\0\0", 9);

class DescriptorsTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_GE(net::RaiseDescriptorLimit().soft, 2 * static_cast<int64_t>(kIdle))
        << "the clients' ends need descriptors: raise the hard limit (ulimit -Hn)";
    ClusterTest::SetUp();
    Process::Surroundings few;
    few.soft_descriptors = kDescriptors / 2;
    few.hard_descriptors = kDescriptors;
    Surround(few);
  }

  // Connections that say `words` and no more.
  static std::deque<RawClient> OpenIdle(int port, const std::string& words) {
    std::deque<RawClient> idle;
    for (size_t i = 0; i < kIdle; ++i) {
      idle.emplace_back(port);
      if (!words.empty() && idle.back().connected()) idle.back().Send(words);
    }
    return idle;
  }

  // How many of 24 clients, each with a connection of its own, get their answer.
  static size_t AskOnNewConnections(int port) {
    size_t n_answered = 0;
    for (size_t i = 0; i < kHonest; ++i) {
      const auto stub = gateway::testing::ConnectTo(port);
      const Answer answer = gateway::testing::Ask(stub.get(), Question("base", i, 4));
      n_answered += answer.status.ok() && answer.token_ids.size() == 4;
      if (!answer.status.ok()) ADD_FAILURE() << answer.status.error_message();
    }
    return n_answered;
  }

  static void ExpectBoundedAndQuiet(const std::string& page, const std::string& listener, Process* process) {
    EXPECT_EQ(MetricSum(page, "coterie_descriptors_limit"), kDescriptors);
    EXPECT_LT(MetricSum(page, "coterie_descriptors_open"), kDescriptors);
    EXPECT_GT(MetricSum(page, "coterie_connections_refused_total"), 0);
    EXPECT_THAT(page, HasSubstr(absl::StrCat("coterie_connections_limit{listener=\"", listener, "\"} 768")));
    EXPECT_THAT(process->Errors(),
                HasSubstr("at most 1024 descriptors (soft limit 512 at start, hard limit 1024)"));
    const absl::Duration before = process->CpuTime();
    absl::SleepFor(absl::Seconds(1));
    EXPECT_LT(process->CpuTime() - before, absl::Milliseconds(500));
  }
};

TEST_F(DescriptorsTest, AGatewayAnswersBesideFiveThousandConnectionsThatSayNothing) {
  const auto worker = StartWorker("w0");
  const auto gateway = StartGateway({worker->address()});
  auto idle = OpenIdle(gateway->port, "");
  EXPECT_EQ(AskOnNewConnections(gateway->port), kHonest);
  ExpectBoundedAndQuiet(gateway->Metrics(), "front", gateway->process.get());
  idle.clear();
  EXPECT_EQ(AskOnNewConnections(gateway->port), kHonest);
}

TEST_F(DescriptorsTest, AGatewayAnswersBesideFiveThousandConnectionsThatAskNothing) {
  const auto worker = StartWorker("w0");
  const auto gateway = StartGateway({worker->address()});
  auto idle = OpenIdle(gateway->port, absl::StrCat(std::string(kPreface), std::string(kEmptySettings)));
  // The youngest might be about to ask: their places are free for others after two seconds.
  absl::SleepFor(absl::Seconds(3));
  EXPECT_EQ(AskOnNewConnections(gateway->port), kHonest);
  ExpectBoundedAndQuiet(gateway->Metrics(), "front", gateway->process.get());
  idle.clear();
  EXPECT_EQ(AskOnNewConnections(gateway->port), kHonest);
}

TEST_F(DescriptorsTest, AWorkerTakesANewGatewayBesideFiveThousandIdleConnections) {
  const auto worker = StartWorker("w0");
  const auto gateway = StartGateway({worker->address()});
  auto idle = OpenIdle(worker->port, "");
  const auto another = StartGateway({worker->address()});
  EXPECT_EQ(AskOnNewConnections(another->port), kHonest);
  EXPECT_EQ(AskOnNewConnections(gateway->port), kHonest) << "whose stream goes on";
  EXPECT_EQ(MetricSum(gateway->Metrics(), "coterie_failovers_total"), 0);
  ExpectBoundedAndQuiet(worker->Metrics(), "worker", worker->process.get());
  idle.clear();
  EXPECT_EQ(AskOnNewConnections(another->port), kHonest);
}

TEST_F(DescriptorsTest, MetricsAreServedBesideIdleConnections) {
  const auto worker = StartWorker("w0");
  const auto idle = OpenIdle(worker->metrics_port, "GET /");
  for (size_t i = 0; i < kHonest; ++i) {
    EXPECT_THAT(worker->Metrics(), HasSubstr("coterie_connections_open{listener=\"metrics\"}"));
  }
  EXPECT_EQ(worker->process->Wait(absl::ZeroDuration()), -1) << "it is alive";
}

}  // namespace
}  // namespace coterie::cluster
