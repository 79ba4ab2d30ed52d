#ifndef COTERIE_TESTS_CLUSTER_CLUSTER_FIXTURE_H_
#define COTERIE_TESTS_CLUSTER_CLUSTER_FIXTURE_H_

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "coterie/v1/cluster.grpc.pb.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "coterie/v1/generation.grpc.pb.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/asking.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/metrics_page.h"
#include "tests/cluster/process.h"

namespace coterie::cluster {

// A coterie-worker --fake: its tokens are a hash of adapters and tokens, its pace is a flag.
struct WorkerProcess {
  std::string address() const { return "127.0.0.1:" + std::to_string(port); }
  std::string Metrics() const { return MetricsPage(metrics_port); }

  std::string id;
  int port = 0;
  int metrics_port = 0;
  std::unique_ptr<Process> process;
};

struct GatewayProcess {
  std::string Metrics() const { return MetricsPage(metrics_port); }
  v1::StatusResponse Status() const;
  // Waits until exactly `n` workers are ready.
  bool Ready(int n) const;

  int port = 0;
  int admin_port = 0;
  int metrics_port = 0;
  std::unique_ptr<Process> process;
  std::unique_ptr<v1::GenerationService::Stub> generation;
  std::unique_ptr<v1::ClusterService::Stub> cluster;
  std::unique_ptr<v1::ExpertService::Stub> experts;
};

// What an expert is made from: one of tests/data/tiny-adapters and a direction in the embedder's space.
struct ExpertSource {
  std::string name = "one";
  std::string version = "1";
  std::string adapter = "llama-qv";
  std::vector<float> prototype;  // empty: an axis
  double canary_share = 0;       // 0: published as the live version
};

// Real processes over a temporary store.
class ClusterTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  std::filesystem::path store() const { return folder_ / "store"; }
  // A copy of the model whose context is long enough for answers of many thousand tokens; for every process
  // started from here on.
  void UseLongContext();
  // For every process started from here on.
  void Surround(const Process::Surroundings& surroundings) { surroundings_ = surroundings; }

  std::vector<std::string> WorkerFlags(const std::string& listen) const;
  std::vector<std::string> GatewayFlags(const std::vector<std::string>& workers) const;
  // `more` comes last: of a flag given twice the last one counts. Ready when these return.
  std::unique_ptr<WorkerProcess> StartWorker(const std::string& id, const std::vector<std::string>& more = {},
                                             const std::string& listen = "127.0.0.1:0");
  std::unique_ptr<GatewayProcess> StartGateway(const std::vector<std::string>& workers,
                                               const std::vector<std::string>& more = {});

  grpc::Status Publish(const GatewayProcess& gateway, const ExpertSource& source,
                       v1::PublishExpertResponse* response);
  // "alpha", "beta" and "gamma", of an adapter each.
  void PublishThree(const GatewayProcess& gateway);
  // Publishes these files (name, content) as they are; an empty `name` takes the card's.
  static grpc::Status Send(const GatewayProcess& gateway, const std::string& name,
                           const std::vector<std::pair<std::string, std::string>>& files, double canary_share,
                           v1::PublishExpertResponse* response);
  // The expert as a folder, below experts/ in this test's own.
  std::filesystem::path WriteExpertFolder(const ExpertSource& source) const;
  // The vector that `text` is routed by: as a prototype, a score of 1 for a question of this text.
  std::vector<float> Embed(const GatewayProcess& gateway, const std::string& text) const;
  uint64_t Generation(const GatewayProcess& gateway) const;

 private:
  std::filesystem::path folder_;
  std::filesystem::path model_;
  Process::Surroundings surroundings_;
};

inline constexpr size_t kEmbeddingDim = 32;  // of tests/data/tiny-bert

std::string ReadAll(const std::filesystem::path& path);
// A safetensors file with the one tensor prototypes [1, dim].
std::string PrototypesFile(const std::vector<float>& prototype);

// Ports that are free at this moment, all different.
std::vector<int> FreePorts(size_t n);

// A question to `expert` with this seed, answered in `max_tokens` tokens.
v1::GenerateRequest Question(const std::string& expert, uint64_t seed, uint32_t max_tokens = 160);
std::vector<v1::GenerateRequest> Questions(const std::string& expert, size_t n, uint32_t max_tokens = 160);

// Answers asked all at once, undisturbed.
std::vector<std::string> AskAll(const GatewayProcess& gateway,
                                const std::vector<v1::GenerateRequest>& requests);

}  // namespace coterie::cluster

#endif  // COTERIE_TESTS_CLUSTER_CLUSTER_FIXTURE_H_
