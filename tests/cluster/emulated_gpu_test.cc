// Whole systems on GPUs that the build emulates (tests/gpu/emulation): `coterie up` with a worker on each,
// one of which falls off the bus, and workers that find no memory.
#include <signal.h>

#include <algorithm>
#include <fstream>
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
