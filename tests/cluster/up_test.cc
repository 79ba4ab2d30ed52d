// coterie up and coterie experts publish, with real processes behind them.
#include <csignal>
#include <filesystem>
#include <fstream>

#include "tests/cluster/cluster_fixture.h"
#include "tests/gpu/drivers/stand_in_driver.h"

namespace coterie::cluster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

class UpTest : public ClusterTest {
 protected:
  void SetUp() override {
    ClusterTest::SetUp();
    const std::vector<int> ports = FreePorts(4);
    listen_ = "127.0.0.1:" + std::to_string(ports[0]);
    admin_ = "127.0.0.1:" + std::to_string(ports[1]);
    worker_port_ = std::to_string(ports[2]);
    http_ = "127.0.0.1:" + std::to_string(ports[3]);
  }
  // Ready when this returns.
  std::unique_ptr<Process> Up(const fs::path& experts) {
    const fs::path data = fs::path(COTERIE_SOURCE_DIR) / "tests/data";
    auto up = std::make_unique<Process>(
        "coterie", std::vector<std::string>{
                       "up", "--model=" + (data / "tiny-llama.gguf").string(),
                       "--embedder=" + (data / "tiny-bert").string(), "--store=" + store().string(),
                       "--log-dir=" + (store().parent_path() / "log").string(), "--listen=" + listen_,
                       "--admin-listen=" + admin_, "--worker-port=" + worker_port_, "--metrics-port=-1",
                       "--http-listen=" + http_, "--workers=1", "--experts=" + experts.string()});
    EXPECT_TRUE(Eventually([&] { return up->Errors().find(" questions to ") != std::string::npos; }))
        << up->Errors();
    return up;
  }
  std::string Run(const std::vector<std::string>& args, int exit_code, std::string* errors = nullptr) {
    Process process("coterie", args);
    EXPECT_EQ(process.Wait(), exit_code) << process.Errors();
    if (errors != nullptr) *errors = process.Errors();
    return process.ReadLine();
  }

  std::string listen_, admin_, http_, worker_port_;
};

TEST_F(UpTest, ARefusedExpertStopsNeitherTheStartNorTheOthers) {
  const fs::path experts = WriteExpertFolder({.name = "algebra"}).parent_path();
  const fs::path bad = WriteExpertFolder({.name = "bad"});
  WriteExpertFolder({.name = "chemistry", .adapter = "llama-all-linear"});
  const fs::path halved = WriteExpertFolder({.name = "halved"});
  std::ofstream(bad / "expert.yaml", std::ios::app) << "colour: red\n";
  fs::remove(halved / "adapter_config.json");
  const auto up = Up(experts);
  EXPECT_THAT(up->Errors(), HasSubstr("OpenAI clients: base_url=\"http://" + http_ + "/v1\""));
  EXPECT_THAT(up->Errors(), AllOf(HasSubstr("cannot publish bad: "), HasSubstr("unknown field \"colour\""),
                                  HasSubstr("cannot publish halved: "),
                                  HasSubstr("2 experts from " + experts.string() + " (2 new); 2 refused")));
  EXPECT_THAT(Run({"experts", "show", "algebra", "--admin=" + admin_}, 0), HasSubstr("algebra"));
  EXPECT_THAT(Run({"experts", "show", "chemistry", "--admin=" + admin_}, 0), HasSubstr("chemistry"));

  // The same folders given by hand: the good ones were live, the bad ones are named, and the exit code tells.
  std::string errors;
  EXPECT_THAT(Run({"experts", "publish", (experts / "algebra").string(), bad.string(), halved.string(),
                   (experts / "chemistry").string(), "--admin=" + admin_},
                  4, &errors),
              HasSubstr("algebra@"));
  EXPECT_THAT(errors, AllOf(HasSubstr("bad: "), HasSubstr("halved has no adapter_config.json"),
                            Not(HasSubstr("chemistry"))));
  up->Signal(SIGTERM);
  EXPECT_EQ(up->Wait(), 0);
}

TEST_F(UpTest, ADamagedStoreKeepsNothingFromStarting) {
  const fs::path experts = WriteExpertFolder({.name = "algebra"}).parent_path();
  WriteExpertFolder({.name = "chemistry", .adapter = "llama-all-linear"});
  {
    const auto up = Up(experts);
    up->Signal(SIGTERM);
    EXPECT_EQ(up->Wait(), 0);
  }
  fs::resize_file(store() / "catalogue.json", fs::file_size(store() / "catalogue.json") / 2);
  for (const auto& card : fs::directory_iterator(store() / "cards")) {
    fs::remove(card.path() / "prototypes.safetensors");
    break;
  }
  const auto up = Up(experts);
  // Nothing is published over a lost catalogue, which is said for each; what was live still is.
  EXPECT_THAT(up->Errors(), HasSubstr("--restore-catalogue"));
  EXPECT_THAT(Run({"experts", "show", "chemistry", "--admin=" + admin_}, 0), HasSubstr("chemistry"));
  std::string errors;
  Run({"experts", "publish", (experts / "algebra").string(), (experts / "chemistry").string(),
       "--restore-catalogue", "--admin=" + admin_},
      0, &errors);
  EXPECT_EQ(errors, "");
  up->Signal(SIGTERM);
  EXPECT_EQ(up->Wait(), 0);
}

// Whether the build has no CUDA or the machine no GPU.
TEST_F(UpTest, WithoutAGpuTheCpuServesUnlessAGpuIsAskedFor) {
  const StandInDriver driver("driver init=100\n");
  setenv("COTERIE_DRIVER_FOLDER", driver.folder().c_str(), 1);
  const auto up = Up(WriteExpertFolder({.name = "algebra"}).parent_path());
  EXPECT_THAT(up->Errors(), HasSubstr("workers run on the CPU, since "));
  EXPECT_THAT(Run({"status", "--gateway=" + listen_, "--json"}, 0), HasSubstr("{"));
  up->Signal(SIGTERM);
  EXPECT_EQ(up->Wait(), 0);
  const fs::path data = fs::path(COTERIE_SOURCE_DIR) / "tests/data";
  Process asked("coterie", {"up", "--devices=cuda:0", "--model=" + (data / "tiny-llama.gguf").string(),
                            "--embedder=" + (data / "tiny-bert").string(), "--store=" + store().string(),
                            "--log-dir=" + (store().parent_path() / "log").string(), "--listen=" + listen_,
                            "--admin-listen=" + admin_, "--http-listen=", "--metrics-port=-1"});
  EXPECT_EQ(asked.Wait(), 4);
  EXPECT_THAT(asked.Errors(), HasSubstr("--devices: cuda:0: "));
  unsetenv("COTERIE_DRIVER_FOLDER");
}

}  // namespace
}  // namespace coterie::cluster
