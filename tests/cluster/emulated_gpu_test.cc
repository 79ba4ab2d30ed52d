// Whole systems on GPUs that the build emulates (tests/gpu/emulation): `coterie up` with a worker on each,
// one of which falls off the bus; several experts on one question; prompts by cuBLASLt; workers that find no
// memory.
#include <signal.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "common/exit_code.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/testing/seed.h"

namespace coterie::cluster {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

class EmulatedGpuTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    Process listing("coterie-worker", {"--list-devices"});
    if (listing.ReadAll().find("emulated") == std::string::npos) {
      GTEST_SKIP() << "this build emulates no GPU: preset cuda-emulated";
    }
    lost_ = store().parent_path() / "lost";
    fs::create_directories(lost_);
  }

  // Memory is filled when it is allocated: no more than `coterie up` takes for adapters, and a little.
  Process::Surroundings Emulated(const std::vector<std::string>& more = {}) const {
    Process::Surroundings surroundings;
    surroundings.environment = more;  // of two of one name the first counts
    for (const std::string& variable :
         {std::string("COTERIE_EMULATION_DEVICES=2"), absl::StrCat("COTERIE_EMULATION_BYTES=", 640 << 20),
          "COTERIE_EMULATION_LOST=" + lost_.string()}) {
      surroundings.environment.push_back(variable);
    }
    return surroundings;
  }
  fs::path Data() const { return fs::path(COTERIE_SOURCE_DIR) / "tests/data"; }
  std::vector<std::string> WorkerOn(const std::string& device) const {
    return {"--model=" + (Data() / "tiny-llama").string(),
            "--device=" + device,
            "--listen=127.0.0.1:0",
            "--max-seqs=8",
            "--max-batch-tokens=64",
            "--adapter-slots=4",
            "--adapter-bytes=4M"};
  }
  std::vector<std::string> UpOn(const std::string& devices) {
    const std::vector<int> ports = FreePorts(3);
    listen_port_ = ports[0];
    return {"up",
            "--devices=" + devices,
            "--model=" + (Data() / "tiny-llama").string(),
            "--embedder=" + (Data() / "tiny-bert").string(),
            "--store=" + store().string(),
            "--experts=" + (store().parent_path() / "experts").string(),
            "--log-dir=" + log().string(),
            "--adapter-slots=4",
            "--shadow-share=0",
            absl::StrCat("--listen=127.0.0.1:", listen_port_),
            absl::StrCat("--admin-listen=127.0.0.1:", ports[1]),
            absl::StrCat("--worker-port=", ports[2]),
            "--metrics-port=-1"};
  }
  // A worker that computes on this device; ready when this returns.
  std::unique_ptr<WorkerProcess> StartWorkerOn(const std::string& device,
                                               const std::vector<std::string>& more = {}) {
    Surround(Emulated());
    std::vector<std::string> flags = {
        "--fake=no",        "--device=" + device, "--max-seqs=16",     "--max-batch-tokens=512",
        "--kv-tokens=8192", "--adapter-slots=4",  "--adapter-bytes=4M"};
    flags.insert(flags.end(), more.begin(), more.end());
    std::unique_ptr<WorkerProcess> worker = StartWorker(device, flags);
    Surround({});
    return worker;
  }
  // Workers on both devices behind a gateway that knows the experts "one" and "two".
  void StartOnBoth(const std::vector<std::string>& worker_flags = {}) {
    for (const char* device : {"cuda:0", "cuda:1"}) workers_[device] = StartWorkerOn(device, worker_flags);
    gateway_ = std::move(*StartGateway({workers_["cuda:0"]->address(), workers_["cuda:1"]->address()}));
    v1::PublishExpertResponse published;
    ASSERT_TRUE(Publish(gateway_, {.name = "one"}, &published).ok());
    ASSERT_TRUE(Publish(gateway_, {.name = "two", .adapter = "llama-all-linear"}, &published).ok());
  }
  // A device that has answers under way; it is lost when this returns.
  std::string LoseABusyDevice() {
    std::string busy;
    EXPECT_TRUE(Eventually([&] {
      for (const auto& [device, worker] : workers_) {
        if (IsBusy(device)) busy = device;
      }
      return !busy.empty();
    }));
    std::ofstream(lost_ / busy) << "it fell off the bus\n";
    return busy;
  }
  // Answers of a device that was lost before it had ended them went on elsewhere, with a notice of this kind.
  static void ExpectMovedFrom(const std::string& lost, const std::deque<Answer>& answers,
                              v1::Notice::Kind kind) {
    int n_moved = 0;
    for (const Answer& answer : answers) {
      if (answer.route.worker() != lost || answer.finish.worker() == lost) continue;
      ++n_moved;
      ASSERT_FALSE(answer.notices.empty());
      EXPECT_EQ(answer.notices[0].kind(), kind);
      EXPECT_THAT(answer.notices[0].message(), HasSubstr("lost its device"));
    }
    EXPECT_GT(n_moved, 0) << "no answer moved away from " << lost;
  }
  fs::path log() const { return store().parent_path() / "log"; }

  // Ready when this returns.
  std::unique_ptr<Process> Up(const std::string& devices) {
    auto up = std::make_unique<Process>("coterie", UpOn(devices), Emulated());
    EXPECT_TRUE(Eventually([&] { return up->Errors().find(" questions to ") != std::string::npos; }))
        << up->Errors();
    gateway_.generation = gateway::testing::ConnectTo(listen_port_);
    gateway_.cluster = v1::ClusterService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", listen_port_), grpc::InsecureChannelCredentials()));
    return up;
  }
  // The devices of the workers that are ready, in order.
  std::vector<std::string> Devices() const {
    std::vector<std::string> devices;
    const v1::StatusResponse status = gateway_.Status();
    for (const v1::WorkerStatus& worker : status.workers()) {
      if (worker.health() == v1::WORKER_HEALTH_READY) devices.push_back(worker.device());
    }
    std::sort(devices.begin(), devices.end());
    return devices;
  }
  bool IsBusy(const std::string& device) const {
    const v1::StatusResponse status = gateway_.Status();
    return std::any_of(status.workers().begin(), status.workers().end(), [&](const v1::WorkerStatus& worker) {
      return worker.device() == device && worker.running() > 0;
    });
  }

  fs::path lost_;
  int listen_port_ = 0;
  std::map<std::string, std::unique_ptr<WorkerProcess>> workers_;  // by device
  GatewayProcess gateway_;
};

TEST_F(EmulatedGpuTest, AnswersLeaveADeviceThatIsLostWithTheSameTextAndComeBackWithIt) {
  WriteExpertFolder({.name = "one"});
  const auto up = Up("all");
  EXPECT_THAT(up->Errors(), HasSubstr("a worker on each of cuda:0, cuda:1"));
  EXPECT_EQ(Devices(), (std::vector<std::string>{"cuda:0", "cuda:1"}));
  std::vector<v1::GenerateRequest> requests = Questions("one", 8, 150);
  for (size_t i = 1; i < requests.size(); i += 2) requests[i].set_expert("base");
  const std::vector<std::string> expected = AskAll(gateway_, requests);

  Asking asking({gateway_.generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(5));
  ASSERT_TRUE(Eventually([&] { return IsBusy("cuda:1"); }));
  std::ofstream(lost_ / "cuda:1") << "it fell off the bus\n";
  EXPECT_EQ(Texts(asking.Join()), expected);
  int n_moved = 0;
  for (const Answer& answer : asking.Join()) {
    if (answer.route.worker() != "worker-cuda-1") continue;
    if (answer.finish.worker() == "worker-cuda-1") continue;  // it had ended by then
    ++n_moved;
    ASSERT_FALSE(answer.notices.empty());
    EXPECT_EQ(answer.notices[0].kind(), v1::Notice::KIND_RESUMED);
    EXPECT_THAT(answer.notices[0].message(), HasSubstr("lost its device"));
    EXPECT_EQ(answer.finish.worker(), "worker-cuda-0");
  }
  EXPECT_GT(n_moved, 0);
  EXPECT_TRUE(Eventually([&] {
    return up->Errors().find(
               "worker-cuda-1 exited with status 75, since its device was lost; starting it again") !=
           std::string::npos;
  })) << up->Errors();
  // Its log is the next process's by now, which finds the device as it is.
  EXPECT_EQ(Devices(), std::vector<std::string>{"cuda:0"});

  fs::remove(lost_ / "cuda:1");
  EXPECT_TRUE(Eventually([&] { return Devices().size() == 2; })) << up->Errors();
  EXPECT_EQ(AskAll(gateway_, requests), expected);
  up->Signal(SIGTERM);
  EXPECT_EQ(up->Wait(), 0);
}

// Mixtures (several rows of a step each) and blends (rows of several adapters) beside each other.
TEST_F(EmulatedGpuTest, MixturesAndBlendsLeaveADeviceThatIsLostWithTheSameText) {
  StartOnBoth();
  // Each question once as a mixture, once as a blend.
  std::vector<v1::GenerateRequest> requests;
  for (const v1::GenerateRequest& question : Questions("", 3, 100)) {
    for (const v1::CollaborationMode mode : {v1::COLLABORATION_MODE_MIXTURE, v1::COLLABORATION_MODE_BLEND}) {
      v1::Collaboration* collaboration = requests.emplace_back(question).mutable_collaboration();
      collaboration->set_mode(mode);
      for (const char* name : {"one", "two"}) {
        v1::CollaborationMember* member = collaboration->add_members();
        member->set_expert(name);
        member->set_weight(name[0] == 'o' ? 0.625f : 0.375f);
      }
    }
  }
  const std::vector<std::string> expected = AskAll(gateway_, requests);
  const std::vector<std::string> of_one = AskAll(gateway_, Questions("one", 3, 100));
  for (size_t i = 0; i < of_one.size(); ++i) {
    EXPECT_NE(expected[2 * i], of_one[i]) << "the mixture is one member's";
    EXPECT_NE(expected[2 * i + 1], of_one[i]) << "the blend is one member's";
    EXPECT_NE(expected[2 * i], expected[2 * i + 1]);
  }

  Asking asking({gateway_.generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(5));
  const std::string lost = LoseABusyDevice();
  const std::vector<std::string> texts = Texts(asking.Join());
  ExpectMovedFrom(lost, asking.Join(), v1::Notice::KIND_RESUMED);
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(asking.Join()[i].route.mode(), requests[i].collaboration().mode());
    EXPECT_EQ(asking.Join()[i].route.experts_size(), 2);
  }
  EXPECT_EQ(workers_[lost]->process->Wait(), kDeviceLostExitCode);
  EXPECT_EQ(texts, expected);
  const WorkerProcess& left = *workers_[lost == "cuda:0" ? "cuda:1" : "cuda:0"];
  EXPECT_EQ(MetricSum(left.Metrics(), "coterie_worker_bytes_between_workers_total"), 0);
}

TEST_F(EmulatedGpuTest, AGateThatWantsWeightsAtEachModuleIsRefusedByName) {
  StartOnBoth();
  v1::GenerateRequest request = Questions("", 1, 10)[0];
  request.mutable_collaboration()->set_mode(v1::COLLABORATION_MODE_GATED);
  for (const char* name : {"one", "two"}) {
    request.mutable_collaboration()->add_members()->set_expert(name);
  }
  EXPECT_EQ(AskAll(gateway_, {request}).size(), 1u) << "gateless";
  request.mutable_collaboration()->set_gate(v1::GATE_KIND_ARROW);
  Asking asking({gateway_.generation.get()}, {request});
  const grpc::Status status = asking.Join()[0].status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("the request has the gate arrow and no worker has it"));
}

// Prompts by cuBLASLt: nobody is promised what their bits do not hold.
TEST_F(EmulatedGpuTest, FastPrefillAnswersAndPromisesNoTextAfterALoss) {
  StartOnBoth({"--gpu-prefill=fast"});
  const v1::StatusResponse status = gateway_.Status();
  for (const v1::WorkerStatus& worker : status.workers()) {
    EXPECT_THAT(worker.numerics_class(), HasSubstr(" prefill=cublaslt-"));
    EXPECT_FALSE(worker.batch_invariant());
  }
  std::vector<v1::GenerateRequest> requests = Questions("one", 6, 80);
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i % 3 == 1) requests[i].set_expert("base");
    // More rows than our own kernels take in this mode, and no two prompts begin alike.
    v1::ChatMessage* message = requests[i].mutable_chat()->mutable_messages(0);
    message->set_content(absl::StrCat(i, " of these. ", std::string(110, 'x'), message->content()));
  }
  Asking asking({gateway_.generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(5));
  const std::string lost = LoseABusyDevice();
  Texts(asking.Join());
  ExpectMovedFrom(lost, asking.Join(), v1::Notice::KIND_RESUMED_OTHER_NUMERICS);
  for (const Answer& answer : asking.Join()) {
    EXPECT_GT(answer.finish.usage().prompt_tokens(), 64u);
  }
  EXPECT_EQ(workers_[lost]->process->Wait(), kDeviceLostExitCode);
}

TEST_F(EmulatedGpuTest, NamedDevicesGetAWorkerEachAndOthersNone) {
  WriteExpertFolder({.name = "one"});
  {
    const auto up = Up("cuda:1");
    EXPECT_EQ(Devices(), std::vector<std::string>{"cuda:1"});
    EXPECT_THAT(ReadAll(log() / "worker-cuda-1.log"), HasSubstr("device cuda:1: a GPU emulated on the CPU"));
    EXPECT_FALSE(fs::exists(log() / "worker-cuda-0.log"));
    const std::vector<std::string> texts = AskAll(gateway_, Questions("one", 2, 20));
    EXPECT_NE(texts[0], texts[1]);
    up->Signal(SIGTERM);
    EXPECT_EQ(up->Wait(), 0);
  }
  Process refused("coterie", UpOn("cuda:1,cuda:2"), Emulated());
  EXPECT_EQ(refused.Wait(), 4);
  EXPECT_THAT(refused.Errors(), HasSubstr("--devices: there is no \"cuda:2\"; there are cuda:0, cuda:1"));
}

TEST_F(EmulatedGpuTest, AWorkerThatFindsNoMemoryEndsAndSaysWhatItWanted) {
  Process full("coterie-worker", WorkerOn("cuda:0"), Emulated({"COTERIE_EMULATION_BYTES=2000000"}));
  EXPECT_EQ(full.Wait(), 1);
  EXPECT_THAT(full.Errors(),
              AllOf(HasSubstr("not enough memory: "), HasSubstr("--adapter-bytes makes that smaller")));
  // Memory that was there when the plan was made, and taken by somebody else since.
  std::mt19937 random(testing::TestSeed());
  for (const int first : {0, 15, 30}) {
    const int n = first + std::uniform_int_distribution<int>(0, 14)(random);
    Process process("coterie-worker", WorkerOn("cuda:1"),
                    Emulated({absl::StrCat("COTERIE_EMULATION_FAIL_ALLOCATION=", n)}));
    EXPECT_EQ(process.Wait(), 1) << n;
    EXPECT_THAT(process.Errors(),
                AnyOf(HasSubstr(" of device memory for "), HasSubstr(" of pinned host memory for "),
                      HasSubstr(": cudaErrorMemoryAllocation")))
        << n;
  }
}

TEST_F(EmulatedGpuTest, ADeviceThatIsLostFromTheBeginningEndsTheStart) {
  std::ofstream(lost_ / "cuda:0") << "it fell off the bus\n";
  Process process("coterie-worker", WorkerOn("cuda:0"), Emulated());
  EXPECT_EQ(process.Wait(), 1);
  EXPECT_THAT(process.Errors(), HasSubstr("the device was lost: device cuda:0"));
}

}  // namespace
}  // namespace coterie::cluster
