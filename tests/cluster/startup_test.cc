// What the processes say when they cannot start.
#include "absl/strings/str_join.h"
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kBadFlags = 2;
constexpr int kCannotStart = 1;

class StartupTest : public ClusterTest {
 protected:
  // Runs `binary` to its end and returns its standard error. `more` comes last and counts.
  std::string Refused(const std::string& binary, std::vector<std::string> flags,
                      const std::vector<std::string>& more, int exit_code) {
    flags.insert(flags.end(), more.begin(), more.end());
    Process process(binary, flags);
    EXPECT_EQ(process.Wait(), exit_code)
        << binary << " " << absl::StrJoin(more, " ") << ": " << process.Errors();
    return process.Errors();
  }
  std::string WorkerRefused(const std::vector<std::string>& more, int exit_code) {
    return Refused("coterie-worker", WorkerFlags("127.0.0.1:0"), more, exit_code);
  }
  std::string GatewayRefused(const std::vector<std::string>& more, int exit_code) {
    return Refused("coterie-gateway", GatewayFlags({"127.0.0.1:1"}), more, exit_code);
  }
};

TEST_F(StartupTest, ATakenPortIsNamed) {
  const auto worker = StartWorker("w0");
  const auto taken = HasSubstr("cannot listen on " + worker->address() + ": the port is taken");
  EXPECT_THAT(WorkerRefused({"--listen=" + worker->address()}, kCannotStart), taken);
  EXPECT_THAT(GatewayRefused({"--listen=" + worker->address()}, kCannotStart), taken);
  EXPECT_THAT(GatewayRefused({"--admin-listen=" + worker->address()}, kCannotStart), taken);
  const std::string port = std::to_string(worker->port);
  EXPECT_THAT(WorkerRefused({"--metrics-port=" + port}, kCannotStart), HasSubstr(port));
  EXPECT_THAT(GatewayRefused({"--metrics-port=" + port}, kCannotStart), HasSubstr(port));
}

TEST_F(StartupTest, AMissingModelIsNamed) {
  EXPECT_THAT(WorkerRefused({"--model=/nonexistent/base"}, kCannotStart), HasSubstr("/nonexistent/base"));
  EXPECT_THAT(GatewayRefused({"--model=/nonexistent/base"}, kCannotStart), HasSubstr("/nonexistent/base"));
  EXPECT_THAT(GatewayRefused({"--embedder=/nonexistent/encoder"}, kCannotStart),
              HasSubstr("/nonexistent/encoder"));
  EXPECT_THAT(GatewayRefused({"--model="}, kBadFlags), HasSubstr("--model is missing"));
  EXPECT_THAT(Refused("coterie-worker", {}, {}, kBadFlags), HasSubstr("--model is missing"));
}

TEST_F(StartupTest, AnUnknownFlagAndABadValueAreNamed) {
  EXPECT_THAT(WorkerRefused({"--threds=2"}, kBadFlags), HasSubstr("--threds"));
  EXPECT_THAT(GatewayRefused({"--wokers=a:1"}, kBadFlags), HasSubstr("--wokers"));
  EXPECT_THAT(WorkerRefused({"--max-seqs=many"}, kBadFlags), AllOf(HasSubstr("max-seqs"), HasSubstr("many")));
  EXPECT_THAT(GatewayRefused({"--heartbeat=soon"}, kBadFlags),
              AllOf(HasSubstr("heartbeat"), HasSubstr("soon")));
}

TEST_F(StartupTest, ARoutingFileThatIsNotThereIsNamed) {
  EXPECT_THAT(GatewayRefused({"--rules=/nonexistent/rules.yaml"}, kCannotStart),
              HasSubstr("/nonexistent/rules.yaml"));
  EXPECT_THAT(GatewayRefused({"--policy=classifier"}, kBadFlags), HasSubstr("needs --classifier FILE"));
}

TEST_F(StartupTest, AStoreThatIsNotThereIsNamed) {
  // A volume that was not mounted must not look like a store without experts.
  EXPECT_THAT(WorkerRefused({"--store=/nonexistent/store"}, kCannotStart), HasSubstr("/nonexistent/store"));
  // The gateway makes its store, where it can.
  EXPECT_THAT(GatewayRefused({"--store=/proc/nonexistent/store"}, kCannotStart),
              HasSubstr("/proc/nonexistent"));
}

}  // namespace
}  // namespace coterie::cluster
