#include "kernels/devices/inventory.h"

#include "absl/synchronization/notification.h"
#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/devices/bounded_call.h"
#include "kernels/devices/gpu_reader.h"
#include "kernels/devices/numa.h"
#include "tests/kernels/devices/stand_in_options.h"

namespace coterie::devices {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const CudaBuild kAnyGpu = {.mode = CudaBuild::Mode::kAny};

TEST(InventoryTest, EachDeviceIsReadWithItsNumaNodeAndItsFreeMemory) {
  const StandInDriver driver(
      "driver cuda=13010 driver=580.82.07\n"
      "device cc=90 name=H200 pci=0000:3B:00.0 memory_mb=1000 used_mb=400\n"
      "device cc=89 name=L4 pci=0000:AF:00.0 memory_mb=500 used_mb=100 mode=3 processes=2\n");
  driver.PutOnNode("0000:3b:00.0", 0, "0-3");
  driver.PutOnNode("0000:af:00.0", 1, "4-7");
  const Inventory inventory = ReadInventory(OptionsOf(driver), kAnyGpu);
  ASSERT_TRUE(inventory.status.ok()) << inventory.status;
  EXPECT_EQ(inventory.driver_version, "580.82.07");
  EXPECT_EQ(inventory.cuda_version, 13010);
  EXPECT_EQ(inventory.n_on_machine, 2);
  ASSERT_EQ(inventory.gpus.size(), 2u);
  const Gpu& first = inventory.gpus[0];
  EXPECT_EQ(first.device(), "cuda:0");
  EXPECT_EQ(first.name, "H200");
  EXPECT_EQ(first.pci_bus_id, "0000:3b:00.0");
  EXPECT_EQ(first.uuid, "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f");
  EXPECT_EQ(first.numa_node, 0);
  EXPECT_EQ(first.total_bytes, uint64_t{1000} << 20);
  EXPECT_EQ(first.free_bytes, uint64_t{600} << 20);
  EXPECT_FALSE(first.mig);
  const Gpu& second = inventory.gpus[1];
  EXPECT_EQ(second.major * 10 + second.minor, 89);
  EXPECT_EQ(second.numa_node, 1);
  EXPECT_EQ(second.mode, Gpu::ComputeMode::kExclusive);
  EXPECT_EQ(second.n_processes, 2);
}

TEST(InventoryTest, WithoutNvmlDevicesAreShownWithoutWhatItWouldAdd) {
  const StandInDriver driver("driver nvml_init=9\ndevice cc=90 name=H200 pci=0000:3B:00.0\n");
  for (const bool has_library : {true, false}) {
    if (!has_library) driver.Remove("libnvidia-ml.so.1");
    const Inventory inventory = ReadInventory(OptionsOf(driver), kAnyGpu);
    ASSERT_EQ(inventory.gpus.size(), 1u);
    EXPECT_FALSE(inventory.gpus[0].free_bytes.has_value());
    EXPECT_EQ(inventory.driver_version, "");
  }
}

TEST(InventoryTest, AMigInstanceIsKnownByItsOwnName) {
  const StandInDriver driver("device cc=90 name=H200 pci=0000:3B:00.0 mig=1\n");
  const Inventory inventory = ReadInventory(OptionsOf(driver), kAnyGpu);
  ASSERT_EQ(inventory.gpus.size(), 1u);
  EXPECT_TRUE(inventory.gpus[0].mig);
  EXPECT_THAT(inventory.gpus[0].uuid, HasSubstr("MIG-00010203"));
}

TEST(InventoryTest, ADriverThatDoesNotAnswerIsGivenUp) {
  const StandInDriver driver("driver cuda_slow_ms=20000\ndevice cc=90\n");
  InventoryOptions options = OptionsOf(driver);
  options.timeout = absl::Milliseconds(100);
  const Inventory inventory = ReadInventory(options, kAnyGpu);
  EXPECT_TRUE(absl::IsDeadlineExceeded(inventory.status));
  EXPECT_THAT(std::string(inventory.status.message()), HasSubstr("did not answer within 100ms"));
  EXPECT_THAT(inventory.gpus, IsEmpty());
}

TEST(InventoryTest, ACallThatReturnsInTimeGivesItsResultOneThatDoesNotGivesNone) {
  EXPECT_EQ(CallWithin(absl::Minutes(1), [] { return 7; }), 7);
  const auto go_on = std::make_shared<absl::Notification>();
  EXPECT_FALSE(CallWithin(absl::Milliseconds(20), [go_on] {
                 go_on->WaitForNotification();
                 return 7;
               }).has_value());
  go_on->Notify();
}

TEST(NumaTest, ADeviceWithoutANodeHasNone) {
  const StandInDriver driver("");
  driver.PutOnNode("0000:3b:00.0", -1, "");
  driver.PutOnNode("0000:af:00.0", 1, "4-6,9");
  EXPECT_EQ(NumaNodeOf("0000:3b:00.0", driver.sysfs()), -1);
  EXPECT_EQ(NumaNodeOf("0000:00:00.0", driver.sysfs()), -1);
  EXPECT_EQ(NumaNodeOf("0000:af:00.0", driver.sysfs()), 1);
  EXPECT_THAT(CoresOfNode(1, driver.sysfs()), ElementsAre(4, 5, 6, 9));
  EXPECT_THAT(CoresOfNode(0, driver.sysfs()), IsEmpty());
}

TEST(CudaBuildTest, CodeRunsOnLaterDevicesOfItsGenerationAndArchSpecificCodeOnItsOwn) {
  const CudaBuild build = {CudaBuild::Mode::kDevices, 13000, {"80", "90a", "100"}};
  for (const auto& [major, minor] : {std::pair(8, 0), {8, 6}, {8, 9}, {9, 0}, {10, 0}, {10, 3}}) {
    EXPECT_TRUE(build.HasCodeFor(major, minor)) << major << "." << minor;
  }
  for (const auto& [major, minor] : {std::pair(7, 5), {9, 1}, {12, 0}}) {
    EXPECT_FALSE(build.HasCodeFor(major, minor)) << major << "." << minor;
  }
}

TEST(GpuReaderTest, WhatADeviceMeasuresIsReadAndTheRestLeftOut) {
  const StandInDriver driver(
      "device pci=0000:3B:00.0 memory_mb=1000 used_mb=400 busy=40 memory_busy=25 temperature=61 "
      "power_mw=350500 "
      "sm_mhz=1980 ecc_corrected=3 ecc_uncorrected=1 throttle=132\n"
      "device pci=0000:AF:00.0\n");
  const Inventory inventory = ReadInventory(OptionsOf(driver), kAnyGpu);
  ASSERT_EQ(inventory.gpus.size(), 2u);
  const GpuReading all = GpuReader::Open(driver.folder(), inventory.gpus[0])->Read().value();
  EXPECT_EQ(all.memory_used_bytes, uint64_t{400} << 20);
  EXPECT_EQ(all.memory_total_bytes, uint64_t{1000} << 20);
  EXPECT_EQ(all.busy_ratio, 0.4);
  EXPECT_EQ(all.memory_busy_ratio, 0.25);
  EXPECT_EQ(all.temperature_celsius, 61);
  EXPECT_EQ(all.power_watts, 350.5);
  EXPECT_EQ(all.sm_clock_hertz, 1.98e9);
  EXPECT_EQ(all.ecc_corrected, 3u);
  EXPECT_EQ(all.ecc_uncorrected, 1u);
  ASSERT_TRUE(all.throttling.has_value());
  EXPECT_TRUE(all.throttling->power);  // 0x84: the cap, and the brake
  EXPECT_FALSE(all.throttling->thermal || all.throttling->hardware || all.throttling->other);
  const GpuReading least = GpuReader::Open(driver.folder(), inventory.gpus[1])->Read().value();
  EXPECT_TRUE(least.memory_used_bytes.has_value());
  EXPECT_FALSE(least.busy_ratio || least.temperature_celsius || least.power_watts || least.ecc_corrected ||
               least.sm_clock_hertz || least.throttling);
}

TEST(GpuReaderTest, ALostDeviceIsToldApartFromOneThatCannotBeRead) {
  const StandInDriver driver("device pci=0000:3B:00.0\n");
  const Gpu gpu = ReadInventory(OptionsOf(driver), kAnyGpu).gpus.at(0);
  const GpuReader reader = GpuReader::Open(driver.folder(), gpu).value();
  driver.Write("device pci=0000:3B:00.0 lost=1\n");
  EXPECT_TRUE(absl::IsDataLoss(reader.Read().status()));
  EXPECT_TRUE(absl::IsDataLoss(GpuReader::Open(driver.folder(), gpu).status()));
  driver.Write("");
  EXPECT_TRUE(absl::IsUnavailable(GpuReader::Open(driver.folder(), gpu).status()));
}

}  // namespace
}  // namespace coterie::devices
