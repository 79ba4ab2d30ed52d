// Which device is chosen, and in what words it is said that one cannot be used: a stand-in driver plays every
// state that a machine may be in.
#include "kernels/devices/choose_device.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/devices/stand_in_options.h"

namespace coterie::devices {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kH200[] = "device cc=90 name=H200 pci=0000:3B:00.0 memory_mb=144384 used_mb=384\n";

CudaBuild BuiltFor(std::vector<std::string> architectures) {
  return {CudaBuild::Mode::kDevices, 13000, std::move(architectures)};
}

// What --device=`text` gives on such a machine.
StatusOr<ChosenDevice> Choose(const std::string& text, const std::string& script,
                              const CudaBuild& build = BuiltFor({"80", "90a"}),
                              std::optional<std::string> visible = std::nullopt) {
  const StandInDriver driver(script);
  InventoryOptions options = OptionsOf(driver);
  options.visible_devices = std::move(visible);
  ASSIGN_OR_RETURN(const DeviceRequest request, DeviceRequest::Parse(text));
  return ChooseDevice(request, ReadInventory(options, build), build);
}

struct Refusal {
  const char* device;
  std::string script;
  std::vector<std::string> words;
};

TEST(ChooseDeviceTest, EachReasonAgainstADeviceIsNamedWithWhatToDo) {
  const std::string t4 = "device cc=75 name=T4 pci=0000:01:00.0\n";
  const Refusal refusals[] = {
      {"cuda:0", "driver init=100\n", {"the NVIDIA driver 580.65.06 finds no GPU in this machine"}},
      {"cuda:0", "driver init=803\n", {"of different versions", "reboot"}},
      {"cuda:0", "driver init=34\n", {"stub for linking", "LD_LIBRARY_PATH"}},
      {"cuda:0", "driver init=999\n", {"cannot be used: unknown error (CUDA error 999)"}},
      {"cuda:0", "driver init=998\n", {"no words for it (CUDA error 998)"}},
      {"cuda:0",
       "driver cuda=12040 driver=550.54.15\n" + std::string(kH200),
       {"cuda:0 (H200)", "driver 550.54.15 speaks CUDA 12.4", "built with CUDA 13.0", "update the driver"}},
      {"cuda:0", t4, {"cuda:0 (T4) has compute capability 7.5; at least 8.0 is needed"}},
      {"cuda:0",
       "device cc=100 name=B200\n",
       {"cuda:0 (B200) has compute capability 10.0, and this build has code for 80, 90a only",
        "-DCOTERIE_CUDA_ARCHITECTURES=\"80;90a;100\""}},
      {"cuda:2", kH200 + t4, {"no such device: the driver shows 2 (cuda:0 to cuda:1)"}},
      {"cuda:1", kH200, {"no such device: the driver shows 1 (cuda:0)"}},
      {"cuda:0",
       "device cc=90 name=H200 mode=2 pci=0000:3B:00.0\n",
       {"compute mode \"prohibited\"", "nvidia-smi -i 0000:3b:00.0 -c DEFAULT"}},
      {"cuda:0",
       "device cc=90 name=H200 mode=3 processes=1\n",
       {"is in exclusive mode and busy: 1 process computes on it already", "take another device"}},
      {"cuda:0",
       "device cc=90 name=H200 lost=1\n",
       {"cuda:0 (H200) has fallen off the bus", "reboot", "dmesg"}},
      {"cuda:0", "device error=999\n", {"cuda:0: the driver tells nothing of it: unknown error"}},
  };
  for (const Refusal& refusal : refusals) {
    const StatusOr<ChosenDevice> chosen = Choose(refusal.device, refusal.script);
    ASSERT_FALSE(chosen.ok()) << refusal.script;
    for (const std::string& words : refusal.words) {
      EXPECT_THAT(std::string(chosen.status().message()), HasSubstr(words));
    }
    // Who asks for whichever there is gets one all the same.
    EXPECT_TRUE(Choose("auto", refusal.script).ok());
  }
}

TEST(ChooseDeviceTest, AUsableDeviceIsTakenAndDescribed) {
  const StatusOr<ChosenDevice> chosen = Choose("cuda:0", kH200);
  ASSERT_TRUE(chosen.ok()) << chosen.status();
  EXPECT_EQ(chosen->device, "cuda:0");
  EXPECT_EQ(
      chosen->words,
      "device cuda:0: H200, compute capability 9.0, 141.0 GB of which 140.6 GB are free, at 0000:3b:00.0");
  // In exclusive mode, and nobody there yet.
  EXPECT_TRUE(Choose("cuda:0", "device cc=90 mode=3\n").ok());
  // A later minor version of CUDA than the driver's is fine, a later capability of the same generation, too.
  EXPECT_TRUE(Choose("cuda:0", kH200, {CudaBuild::Mode::kDevices, 13020, {"90a"}}).ok());
  EXPECT_TRUE(Choose("cuda:0", "device cc=89\n").ok());
  EXPECT_FALSE(Choose("cuda:0", "device cc=91\n").ok());  // 90a is for 9.0 alone
}

TEST(ChooseDeviceTest, AutoTakesTheFirstUsableOneAndSaysWhyOthersWerePassedOver) {
  const std::string two =
      "device cc=75 name=T4 pci=0000:01:00.0\ndevice cc=90 name=H200 lost=1 pci=0000:02:00.0\n";
  const StatusOr<ChosenDevice> third = Choose("auto", two + kH200);
  ASSERT_TRUE(third.ok());
  EXPECT_EQ(third->device, "cuda:2");
  EXPECT_THAT(third->words, AllOf(HasSubstr("passed over: cuda:0 (T4) has compute capability 7.5"),
                                  HasSubstr("; cuda:1 (H200) has fallen off the bus"), Not(HasSubstr("\n"))));
  const StatusOr<ChosenDevice> none = Choose("auto", two);
  EXPECT_EQ(none->device, "cpu");
  EXPECT_FALSE(none->gpu.has_value());
  EXPECT_THAT(none->words, HasSubstr("device cpu, since no GPU can be used: cuda:0 (T4)"));
  EXPECT_THAT(Choose("auto", "driver init=100\n")->words, HasSubstr("device cpu, since the NVIDIA driver"));
}

TEST(ChooseDeviceTest, HiddenDevicesAreNamed) {
  const std::string hidden = "device cc=90 name=H200 hidden=1 pci=0000:3C:00.0\n";
  EXPECT_THAT(std::string(Choose("cuda:1", kH200 + hidden, BuiltFor({"90a"}), "0").status().message()),
              HasSubstr("the driver shows 1 (cuda:0); CUDA_VISIBLE_DEVICES=0 hides 1 of this machine's 2"));
  EXPECT_THAT(
      std::string(Choose("cuda:0", "driver init=100\n" + hidden, BuiltFor({"90a"}), "").status().message()),
      HasSubstr("CUDA_VISIBLE_DEVICES= hides all of this machine's 1 GPUs; name those to use, or unset it"));
}

TEST(ChooseDeviceTest, WithoutADriverOrWithoutCudaTheCpuIsLeft) {
  const StandInDriver driver(kH200);
  driver.Remove("libcuda.so.1");
  const Inventory no_driver = ReadInventory(OptionsOf(driver), BuiltFor({"90a"}));
  EXPECT_THAT(std::string(no_driver.status.message()),
              AllOf(HasSubstr("this machine has no NVIDIA driver"), HasSubstr("libcuda.so.1")));
  const Inventory no_cuda = ReadInventory(OptionsOf(driver), CudaBuild());
  EXPECT_EQ(no_cuda.status, absl::UnimplementedError("this build has no CUDA (built without nvcc)"));
  for (const Inventory& inventory : {no_driver, no_cuda}) {
    EXPECT_EQ(ChooseDevice({DeviceRequest::Kind::kGpu, 0}, inventory, CudaBuild()).status(),
              inventory.status);
    EXPECT_EQ(ChooseDevice({DeviceRequest::Kind::kAuto, 0}, inventory, CudaBuild())->device, "cpu");
    EXPECT_EQ(ChooseDevice({DeviceRequest::Kind::kCpu, 0}, inventory, CudaBuild())->device, "cpu");
  }
  const CudaBuild emulated = {.mode = CudaBuild::Mode::kEmulated};
  const Inventory emulation = ReadInventory(OptionsOf(driver), emulated);
  EXPECT_EQ(ChooseDevice({DeviceRequest::Kind::kGpu, 0}, emulation, emulated)->device, "cuda:0");
}

TEST(ChooseDeviceTest, OnlyThreeFormsAreADevice) {
  EXPECT_EQ(DeviceRequest::Parse("cpu")->kind, DeviceRequest::Kind::kCpu);
  EXPECT_EQ(DeviceRequest::Parse("auto")->kind, DeviceRequest::Kind::kAuto);
  EXPECT_EQ(DeviceRequest::Parse("cuda:17")->index, 17);
  for (const char* bad : {"", "cuda", "cuda:", "cuda:x", "cuda:-1", "cuda:+1", "cuda: 1", "cuda:1x", "CPU",
                          "gpu:0", "cuda:99999999999", "cuda:1024"}) {
    EXPECT_EQ(DeviceRequest::Parse(bad).status(),
              absl::InvalidArgumentError("must be cpu, auto or cuda:N, such as cuda:0"))
        << bad;
  }
}

}  // namespace
}  // namespace coterie::devices
