#include "tests/cluster/cluster_fixture.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/digest.h"
#include "common/file.h"
#include "net/grpc_time.h"

namespace coterie::cluster {
namespace {

namespace fs = std::filesystem;

const fs::path& Data() {
  static const fs::path* const data = new fs::path(fs::path(COTERIE_SOURCE_DIR) / "tests/data");
  return *data;
}

void SetDeadline(grpc::ClientContext* context) {
  context->set_deadline(net::GrpcDeadline(absl::Seconds(30)));
}

}  // namespace

std::string ReadAll(const fs::path& path) {
  const auto content = ReadFile(path, size_t{64} << 20);
  EXPECT_TRUE(content.ok()) << content.status();
  return content.value_or("");
}

std::string PrototypesFile(const std::vector<float>& prototype) {
  const std::string header =
      absl::StrCat("{\"prototypes\":{\"dtype\":\"F32\",\"shape\":[1,", prototype.size(),
                   "],\"data_offsets\":[0,", prototype.size() * sizeof(float), "]}}");
  const uint64_t n = header.size();
  std::string file(reinterpret_cast<const char*>(&n), sizeof(n));
  file += header;
  file.append(reinterpret_cast<const char*>(prototype.data()), prototype.size() * sizeof(float));
  return file;
}

v1::StatusResponse GatewayProcess::Status() const {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::StatusResponse response;
  const grpc::Status status = cluster->Status(&context, {}, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  return response;
}

bool GatewayProcess::Ready(int n) const {
  return Eventually([&] {
    int ready = 0;
    const v1::StatusResponse status = Status();
    for (const v1::WorkerStatus& worker : status.workers()) {
      ready += worker.health() == v1::WORKER_HEALTH_READY;
    }
    return ready == n;
  });
}

void ClusterTest::SetUp() {
  const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
  folder_ = fs::path(::testing::TempDir()) / absl::StrCat("cluster_", getpid(), "_", info->name());
  fs::remove_all(folder_);
  fs::create_directories(store());
  model_ = Data() / "tiny-llama";
}

void ClusterTest::TearDown() { fs::remove_all(folder_); }

void ClusterTest::UseLongContext() {
  const fs::path copy = folder_ / "long-llama";
  fs::copy(model_, copy, fs::copy_options::recursive);
  std::string config = ReadAll(copy / "config.json");
  const std::string before = "\"max_position_embeddings\": 256";
  const size_t at = config.find(before);
  ASSERT_NE(at, std::string::npos) << config;
  config.replace(at, before.size(), "\"max_position_embeddings\": 65536");
  std::ofstream(copy / "config.json") << config;
  model_ = copy;
}

std::vector<std::string> ClusterTest::WorkerFlags(const std::string& listen) const {
  return {
      "--fake",           "--model=" + model_.string(), "--store=" + store().string(), "--listen=" + listen,
      "--metrics-port=0", "--fake-step-time=8ms",       "--reattach-grace=20s"};
}

std::vector<std::string> ClusterTest::GatewayFlags(const std::vector<std::string>& workers) const {
  return {"--model=" + model_.string(), "--embedder=" + (Data() / "tiny-bert").string(),
          "--store=" + store().string(), "--workers=" + absl::StrJoin(workers, ","), "--listen=127.0.0.1:0",
          "--http-listen=", "--admin-listen=127.0.0.1:0", "--metrics-port=0", "--catalogue-poll=50ms",
          "--heartbeat=200ms",
          // Long enough for a machine that is busy with something else.
          "--silence-timeout=3s", "--reattach-grace=1s", "--worker-wait=30s",
          // Workers do what they are asked and nothing else.
          "--shadow-share=0"};
}

std::unique_ptr<WorkerProcess> ClusterTest::StartWorker(const std::string& id,
                                                        const std::vector<std::string>& more,
                                                        const std::string& listen) {
  std::vector<std::string> flags = WorkerFlags(listen);
  flags.push_back("--id=" + id);
  flags.insert(flags.end(), more.begin(), more.end());
  auto worker = std::make_unique<WorkerProcess>();
  worker->id = id;
  worker->process = std::make_unique<Process>("coterie-worker", flags, surroundings_);
  const std::string listening = worker->process->ReadLine();
  EXPECT_EQ(std::sscanf(listening.c_str(), "listening 127.0.0.1:%d", &worker->port), 1) << listening;
  const std::string metrics = worker->process->ReadLine();
  EXPECT_EQ(std::sscanf(metrics.c_str(), "metrics %d", &worker->metrics_port), 1) << metrics;
  return worker;
}

std::unique_ptr<GatewayProcess> ClusterTest::StartGateway(const std::vector<std::string>& workers,
                                                          const std::vector<std::string>& more) {
  std::vector<std::string> flags = GatewayFlags(workers);
  flags.insert(flags.end(), more.begin(), more.end());
  auto gateway = std::make_unique<GatewayProcess>();
  gateway->process = std::make_unique<Process>("coterie-gateway", flags, surroundings_);
  const std::string line = gateway->process->ReadLine();
  EXPECT_EQ(std::sscanf(line.c_str(), "listening %d admin %d metrics %d", &gateway->port,
                        &gateway->admin_port, &gateway->metrics_port),
            3)
      << line;
  gateway->generation = gateway::testing::ConnectTo(gateway->port);
  const auto connect = [](int port) {
    return grpc::CreateChannel(absl::StrCat("127.0.0.1:", port), grpc::InsecureChannelCredentials());
  };
  gateway->cluster = v1::ClusterService::NewStub(connect(gateway->port));
  gateway->experts = v1::ExpertService::NewStub(connect(gateway->admin_port));
  EXPECT_TRUE(gateway->Ready(static_cast<int>(workers.size()))) << gateway->process->Errors();
  return gateway;
}

namespace {

// Names and contents of the files of an expert.
std::vector<std::pair<std::string, std::string>> FilesOf(const ExpertSource& source) {
  std::vector<float> prototype = source.prototype;
  if (prototype.empty()) {
    prototype.assign(kEmbeddingDim, 0);
    prototype[0] = 1;
  }
  const fs::path adapter = Data() / "tiny-adapters" / source.adapter;
  return {{"adapter_config.json", ReadAll(adapter / "adapter_config.json")},
          {"adapter_model.safetensors", ReadAll(adapter / "adapter_model.safetensors")},
          {"expert.yaml", absl::StrCat("name: ", source.name, "\nversion: \"", source.version,
                                       "\"\ndescription: made from ", source.adapter, "\n")},
          {"prototypes.safetensors", PrototypesFile(prototype)}};
}

}  // namespace

fs::path ClusterTest::WriteExpertFolder(const ExpertSource& source) const {
  const fs::path folder = folder_ / "experts" / source.name;
  fs::create_directories(folder);
  for (const auto& [name, content] : FilesOf(source))
    std::ofstream(folder / name, std::ios::binary) << content;
  return folder;
}

grpc::Status ClusterTest::Publish(const GatewayProcess& gateway, const ExpertSource& source,
                                  v1::PublishExpertResponse* response) {
  return Send(gateway, source.name, FilesOf(source), source.canary_share, response);
}

void ClusterTest::PublishThree(const GatewayProcess& gateway) {
  for (const auto& [name, adapter] :
       {std::pair("alpha", "llama-qv"), {"beta", "llama-all-linear"}, {"gamma", "llama-rslora"}}) {
    ExpertSource source;
    source.name = name;
    source.adapter = adapter;
    v1::PublishExpertResponse published;
    const grpc::Status status = Publish(gateway, source, &published);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
}

grpc::Status ClusterTest::Send(const GatewayProcess& gateway, const std::string& name,
                               const std::vector<std::pair<std::string, std::string>>& files,
                               double canary_share, v1::PublishExpertResponse* response) {
  grpc::ClientContext context;
  SetDeadline(&context);
  const auto writer = gateway.experts->Publish(&context, response);
  v1::PublishExpertRequest message;
  message.mutable_header()->set_name(name);
  if (canary_share > 0) message.mutable_header()->set_canary_share(canary_share);
  for (const auto& [file_name, content] : files) {
    v1::PublishExpertRequest::File* file = message.mutable_header()->add_files();
    file->set_name(file_name);
    file->set_size_bytes(content.size());
    file->set_sha256(Sha256(content).ToHex());
  }
  bool open = writer->Write(message);
  for (size_t i = 0; i < files.size() && open; ++i) {
    message.mutable_chunk()->set_file_index(static_cast<uint32_t>(i));
    message.mutable_chunk()->set_data(files[i].second);
    open = writer->Write(message);
  }
  writer->WritesDone();
  return writer->Finish();
}

std::vector<float> ClusterTest::Embed(const GatewayProcess& gateway, const std::string& text) const {
  grpc::ClientContext context;
  SetDeadline(&context);
  v1::EmbedRequest request;
  request.add_texts(text);
  v1::EmbedResponse response;
  const grpc::Status status = gateway.generation->Embed(&context, request, &response);
  EXPECT_TRUE(status.ok()) << status.error_message();
  if (response.embeddings_size() != 1) {
    ADD_FAILURE() << response.embeddings_size() << " embeddings of one text";
    return {};
  }
  const auto& values = response.embeddings(0).values();
  return {values.begin(), values.end()};
}

uint64_t ClusterTest::Generation(const GatewayProcess& gateway) const {
  return gateway.Status().catalogue_generation();
}

std::vector<int> FreePorts(size_t n) {
  std::vector<int> sockets, ports;
  for (size_t i = 0; i < n; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    sockets.push_back(fd);
    ports.push_back(ntohs(address.sin_port));
  }
  for (const int fd : sockets) ::close(fd);
  return ports;
}

v1::GenerateRequest Question(const std::string& expert, uint64_t seed, uint32_t max_tokens) {
  v1::GenerateRequest request;
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content(absl::StrCat("Question ", seed));
  request.set_expert(expert);
  request.mutable_sampling()->set_seed(seed);
  request.mutable_sampling()->set_temperature(0.8f);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

std::vector<v1::GenerateRequest> Questions(const std::string& expert, size_t n, uint32_t max_tokens) {
  std::vector<v1::GenerateRequest> requests;
  for (size_t i = 0; i < n; ++i) requests.push_back(Question(expert, 100 + i, max_tokens));
  return requests;
}

std::vector<std::string> AskAll(const GatewayProcess& gateway,
                                const std::vector<v1::GenerateRequest>& requests) {
  Asking asking({gateway.generation.get()}, requests);
  return Texts(asking.Join());
}

}  // namespace coterie::cluster
