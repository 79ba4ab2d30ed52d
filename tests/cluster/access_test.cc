// Real processes that ask each other who they are: certificates made for the test, a shared secret, API keys.
#include <cstdlib>
#include <fstream>

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/api_keys.h"
#include "common/file.h"
#include "net/tls_credentials.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/net/certificates.h"

namespace coterie::cluster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class AccessTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    certificates_ = std::make_unique<net::Certificates>(store().parent_path() / "tls");
  }
  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = store().parent_path() / name;
    EXPECT_TRUE(WriteFileAtomically(path, text).ok());
    return path;
  }
  std::vector<std::string> ServerFlags(const std::string& name, const std::string& client_ca) {
    return {"--tls-cert=" + certificates_->Pem(name), "--tls-key=" + certificates_->Key(name),
            "--tls-client-ca=" + certificates_->Pem(client_ca)};
  }
  std::vector<std::string> ToWorkers(const std::string& name, const std::string& ca) {
    return {"--worker-cert=" + certificates_->Pem(name), "--worker-key=" + certificates_->Key(name),
            "--worker-ca=" + certificates_->Pem(ca)};
  }
  // What the gateway says of its only worker, once `words` are in it.
  static std::string WorkerMessage(const GatewayProcess& gateway, const std::string& words) {
    std::string message;
    Eventually([&] {
      message = gateway.Status().workers(0).message();
      return absl::StrContains(message, words);
    });
    return message;
  }
  // Without waiting for its workers.
  std::unique_ptr<GatewayProcess> StartAlone(const std::vector<std::string>& workers,
                                             const std::vector<std::string>& more) {
    std::vector<std::string> flags = GatewayFlags(workers);
    flags.insert(flags.end(), more.begin(), more.end());
    auto gateway = std::make_unique<GatewayProcess>();
    gateway->process = std::make_unique<Process>("coterie-gateway", flags);
    const std::string line = gateway->process->ReadLine();
    EXPECT_EQ(std::sscanf(line.c_str(), "listening %d admin %d metrics %d", &gateway->port,
                          &gateway->admin_port, &gateway->metrics_port),
              3)
        << line;
    gateway->cluster = v1::ClusterService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", gateway->port), grpc::InsecureChannelCredentials()));
    return gateway;
  }

  std::unique_ptr<net::Certificates> certificates_;
};

TEST_F(AccessTest, GatewaysAndWorkersKnowEachOtherByCertificates) {
  certificates_->Make("worker");
  certificates_->Make("gateway");
  certificates_->Make("stranger", {.ca = "other"});
  certificates_->Make("elsewhere", {.names = "DNS:elsewhere.example"});
  const auto worker = StartWorker("w0", ServerFlags("worker", "ca"));
  const auto gateway = StartGateway({worker->address()}, ToWorkers("gateway", "ca"));
  const auto answers = AskAll(*gateway, Questions("base", 4, 20));
  EXPECT_EQ(answers.size(), 4u);
  for (const std::string& text : answers) EXPECT_FALSE(text.empty());

  // Another authority's certificate; none; plain text; a worker that we do not believe.
  const std::vector<std::vector<std::string>> strangers = {ToWorkers("stranger", "ca"),
                                                           {"--worker-ca=" + certificates_->Pem("ca")},
                                                           {},
                                                           ToWorkers("gateway", "other")};
  for (const std::vector<std::string>& flags : strangers) {
    const auto refused = StartAlone({worker->address()}, flags);
    absl::SleepFor(absl::Milliseconds(300));
    EXPECT_NE(refused->Status().workers(0).health(), v1::WORKER_HEALTH_READY);
  }
  EXPECT_TRUE(gateway->Ready(1));

  // New certificates of both sides while answers run.
  Asking asking({gateway->generation.get()}, Questions("base", 8, 150));
  certificates_->Make("worker");
  certificates_->Make("gateway");
  const auto& running = asking.Join();
  for (const auto& one : running) EXPECT_TRUE(one.status.ok()) << one.status.error_message();
  EXPECT_TRUE(gateway->Ready(1));
}

TEST_F(AccessTest, GatewaysAndWorkersShareASecret) {
  const std::string ours = Write("ours", std::string(64, 'a') + "\n");
  const std::string theirs = Write("theirs", std::string(64, 'b') + "\n");
  const auto worker = StartWorker("w0", {"--gateway-secret=" + ours});
  const auto gateway = StartGateway({worker->address()}, {"--worker-secret=" + ours});
  EXPECT_EQ(AskAll(*gateway, Questions("base", 4, 20)).size(), 4u);
  const auto wrong = StartAlone({worker->address()}, {"--worker-secret=" + theirs});
  EXPECT_THAT(WorkerMessage(*wrong, "shared secret"), HasSubstr("does not know our shared secret"));
  const auto none = StartAlone({worker->address()}, {});
  EXPECT_THAT(WorkerMessage(*none, "shared secret"), HasSubstr("--worker-secret"));
  const auto open = StartWorker("w1");
  const auto strict = StartAlone({open->address()}, {"--worker-secret=" + ours});
  EXPECT_THAT(WorkerMessage(*strict, "shared secret"), HasSubstr("--gateway-secret"));
  EXPECT_TRUE(gateway->Ready(1));
  for (const Process* process : {gateway->process.get(), worker->process.get(), wrong->process.get()}) {
    EXPECT_THAT(process->Errors(), Not(HasSubstr("aaaaaaaa")));
    EXPECT_THAT(process->Errors(), Not(HasSubstr("bbbbbbbb")));
  }
}

TEST_F(AccessTest, ListeningWhereOthersComeWantsAGuardOrAWord) {
  const std::string secret = Write("secret", std::string(64, 'a'));
  const std::string keys = Write("keys.json", PrintApiKeys({}));
  const auto ends_with = [&](const char* binary, std::vector<std::string> flags,
                             const std::vector<std::string>& more) {
    flags.insert(flags.end(), more.begin(), more.end());
    Process process(binary, flags);
    EXPECT_EQ(process.Wait(), 2) << process.Errors();
    return process.Errors();
  };
  EXPECT_THAT(ends_with("coterie-worker", WorkerFlags("0.0.0.0:0"), {"--metrics-port=-1"}),
              HasSubstr("--listen=0.0.0.0:0 wants --gateway-secret"));
  EXPECT_THAT(ends_with("coterie-gateway", GatewayFlags({"127.0.0.1:1"}), {"--listen=0.0.0.0:0"}),
              HasSubstr("--listen=0.0.0.0:0 wants --keys"));
  EXPECT_THAT(ends_with("coterie-gateway", GatewayFlags({"127.0.0.1:1"}), {"--http-listen=:0"}),
              HasSubstr("--http-listen=:0"));
  EXPECT_THAT(ends_with("coterie-gateway", GatewayFlags({"127.0.0.1:1"}),
                        {"--keys=" + keys, "--admin-listen=0.0.0.0:0"}),
              HasSubstr("--admin-listen=0.0.0.0:0 wants --tls-operator-ca"));
  EXPECT_THAT(ends_with("coterie-gateway", GatewayFlags({"127.0.0.1:1"}), {"--metrics-host=0.0.0.0"}),
              HasSubstr("--metrics-host"));
  const auto starts = [&](const char* binary, std::vector<std::string> flags,
                          const std::vector<std::string>& more) {
    flags.insert(flags.end(), more.begin(), more.end());
    Process process(binary, flags);
    EXPECT_THAT(process.ReadLine(), HasSubstr("listening"));
  };
  starts("coterie-worker", WorkerFlags("0.0.0.0:0"), {"--metrics-port=-1", "--gateway-secret=" + secret});
  starts("coterie-worker", WorkerFlags("0.0.0.0:0"), {"--insecure-listen"});
  starts("coterie-gateway", GatewayFlags({"127.0.0.1:1"}), {"--listen=0.0.0.0:0", "--keys=" + keys});
  starts("coterie-gateway", GatewayFlags({"127.0.0.1:1"}),
         {"--listen=0.0.0.0:0", "--admin-listen=0.0.0.0:0", "--insecure-listen"});
}

// The command against a gateway that speaks TLS and asks for keys.
TEST_F(AccessTest, TheCommandShowsKeyAndCertificate) {
  certificates_->Make("gateway");
  certificates_->Make("ann");
  ApiKey key;
  key.id = key.tenant = "ann";
  key.digest = HashApiKey("coterie-secret-of-ann");
  const std::string keys = Write("keys.json", PrintApiKeys({key}));
  const std::string key_file = Write("key", "coterie-secret-of-ann\n");
  const auto worker = StartWorker("w0");
  std::vector<std::string> more = ServerFlags("gateway", "ca");
  more.push_back("--keys=" + keys);
  const auto gateway = StartAlone({worker->address()}, more);
  const auto run = [&](const std::vector<std::string>& flags, int exit_code) {
    std::vector<std::string> args = {"ask", "hi", "--expert=base", "--max-tokens=5",
                                     absl::StrCat("--gateway=127.0.0.1:", gateway->port)};
    args.insert(args.end(), flags.begin(), flags.end());
    Process process("coterie", args);
    const std::string out = process.ReadAll();
    EXPECT_EQ(process.Wait(), exit_code) << out << process.Errors();
    return process.Errors();
  };
  const std::string ca = "--tls-ca=" + certificates_->Pem("ca");
  const std::vector<std::string> shown = {ca, "--tls-cert=" + certificates_->Pem("ann"),
                                          "--tls-key=" + certificates_->Key("ann")};
  std::vector<std::string> all = shown;
  all.push_back("--api-key-file=" + key_file);
  run(all, 0);
  EXPECT_THAT(run(shown, 4), HasSubstr("no API key"));
  run({ca, "--api-key-file=" + key_file, "--connect-timeout=500ms"}, 3);
  run({"--api-key-file=" + key_file, "--connect-timeout=500ms"}, 3);
  EXPECT_THAT(gateway->process->Errors(), Not(HasSubstr("secret-of-ann")));
}

}  // namespace
}  // namespace coterie::cluster
