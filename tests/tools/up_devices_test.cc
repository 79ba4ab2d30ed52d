#include "tools/coterie/up_devices.h"

#include <filesystem>
#include <fstream>

#include "common/clock.h"
#include "common/exit_code.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/coterie/child_process.h"

namespace coterie::command {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<ListedDevice> kThreeGpus = {{"cuda:0", true, "H200"},
                                              {"cuda:1", false, "cuda:1 (T4) has compute capability 7.5"},
                                              {"cuda:2", true, "H200"},
                                              {"cpu", true, "64 cores"}};
const std::vector<ListedDevice> kNoGpu = {{"cuda", false, "this machine has no NVIDIA driver"},
                                          {"cpu", true, "8 cores"}};

StatusOr<UpDevices> Choose(const std::vector<std::string>& asked, const std::vector<ListedDevice>& listed) {
  return ChooseUpDevices(asked, listed, /*n_cpu_workers=*/2);
}

std::string WhyNot(const std::vector<std::string>& asked, const std::vector<ListedDevice>& listed) {
  return std::string(Choose(asked, listed).status().message());
}

TEST(UpDevicesTest, AllTakesEveryUsableGpuAndNamesTheOthers) {
  const UpDevices chosen = Choose({"all"}, kThreeGpus).value();
  EXPECT_THAT(chosen.devices, ElementsAre("cuda:0", "cuda:2"));
  EXPECT_EQ(chosen.note,
            "a worker on each of cuda:0, cuda:2; passed over: cuda:1 (T4) has compute capability 7.5");
}

TEST(UpDevicesTest, WithoutAGpuWorkersRunOnTheCpuAndItIsSaidWhy) {
  const UpDevices chosen = Choose({"all"}, kNoGpu).value();
  EXPECT_THAT(chosen.devices, ElementsAre("cpu", "cpu"));
  EXPECT_EQ(chosen.note, "workers run on the CPU, since this machine has no NVIDIA driver");
  EXPECT_THAT(Choose({"cpu"}, kThreeGpus)->devices, ElementsAre("cpu", "cpu"));
}

TEST(UpDevicesTest, NamedGpusAreTakenInTheirOrderOrTheReasonIsGiven) {
  EXPECT_THAT(Choose({"cuda:2", "cuda:0"}, kThreeGpus)->devices, ElementsAre("cuda:2", "cuda:0"));
  EXPECT_EQ(WhyNot({"cuda:0", "cuda:1"}, kThreeGpus),
            "--devices: cuda:1: cuda:1 (T4) has compute capability 7.5");
  EXPECT_EQ(WhyNot({"cuda:3"}, kThreeGpus),
            "--devices: there is no \"cuda:3\"; there are cuda:0, cuda:1, cuda:2");
  EXPECT_EQ(WhyNot({"cuda:0"}, kNoGpu), "--devices: cuda:0: this machine has no NVIDIA driver");
  EXPECT_THAT(WhyNot({"tpu"}, kThreeGpus), HasSubstr("there is no \"tpu\""));
}

TEST(UpDevicesTest, ListsThatMakeNoSenseAreRefused) {
  EXPECT_THAT(WhyNot({"cuda:0", "cpu"}, kThreeGpus), HasSubstr("cpu stands alone"));
  EXPECT_THAT(WhyNot({"all", "cuda:0"}, kThreeGpus), HasSubstr("all stands alone"));
  EXPECT_EQ(WhyNot({"cuda:0", "cuda:0"}, kThreeGpus), "--devices: cuda:0 is named twice");
  EXPECT_THAT(WhyNot({}, kThreeGpus), HasSubstr("none is named"));
}

TEST(UpDevicesTest, LinesOfAListingAreReadAndOthersLeftOut) {
  const std::string said =
      absl::StrCat("a driver's own words\n", DeviceLine(kThreeGpus[0]), "\n", DeviceLine(kThreeGpus[1]),
                   "\ncuda:9\n", DeviceLine(kThreeGpus[3]), "\n");
  const std::vector<ListedDevice> listed = ParseDeviceLines(said);
  ASSERT_EQ(listed.size(), 3u);
  EXPECT_EQ(listed[0].device, "cuda:0");
  EXPECT_TRUE(listed[0].usable);
  EXPECT_FALSE(listed[1].usable);
  EXPECT_EQ(listed[1].words, kThreeGpus[1].words);
  EXPECT_EQ(listed[2].device, "cpu");
  EXPECT_EQ(DeviceLine({"cuda:0", false, "two\nlines"}), "cuda:0 unusable two lines");
}

// Programs in the worker's place.
class AskForDevicesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path Program(const std::string& body) const {
    const fs::path program = folder_ / "worker";
    std::ofstream(program) << "#!/bin/sh\n" << body << "\n";
    fs::permissions(program, fs::perms::owner_all);
    return program;
  }
  StatusOr<std::vector<ListedDevice>> Ask(const std::string& body,
                                          absl::Duration timeout = absl::Minutes(1)) {
    return AskForDevices(Program(body), folder_ / "log", timeout);
  }
  fs::path folder_;
};

TEST_F(AskForDevicesTest, WhatTheWorkerSaysIsRead) {
  const auto listed = Ask("echo 'cuda:0 usable H200'; echo oops >&2; echo 'cpu usable 8 cores'");
  ASSERT_TRUE(listed.ok()) << listed.status();
  EXPECT_EQ(listed->size(), 2u);
}

TEST_F(AskForDevicesTest, AWorkerThatHangsOrSaysNothingIsAnErrorInBoundedTime) {
  EXPECT_TRUE(absl::IsDeadlineExceeded(Ask("exec sleep 600", absl::Milliseconds(100)).status()));
  EXPECT_THAT(std::string(Ask("exit 3").status().message()), HasSubstr("exited with status 3"));
  EXPECT_FALSE(AskForDevices(folder_ / "none", folder_ / "log", absl::Seconds(1)).ok());
}

TEST_F(AskForDevicesTest, ALostDeviceIsToldByTheExitCode) {
  const auto process =
      ChildProcess::Start({Program(absl::StrCat("exit ", kDeviceLostExitCode)).string()}, folder_ / "log")
          .value();
  const MonotonicTime deadline = MonotonicNow() + absl::Seconds(20);
  while (!process->Ended() && MonotonicNow() < deadline) {
  }
  EXPECT_EQ(process->Ended(), "exited with status 75, since its device was lost");
}

}  // namespace
}  // namespace coterie::command
