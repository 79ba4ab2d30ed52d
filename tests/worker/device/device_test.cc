// What a worker does about its device beside computing: where it runs, what it reads, when it gives it up.
#include "absl/synchronization/notification.h"
#include "common/clock.h"
#include "common/cores.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kernels/devices/stand_in_options.h"
#include "worker/device/device_metrics.h"
#include "worker/device/gpu_monitor.h"
#include "worker/device/pin_near.h"
#include "worker/device/step_watch.h"
#include "worker/device/use_device.h"

namespace coterie::worker {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

devices::Gpu GpuOf(const StandInDriver& driver) {
  return devices::ReadInventory(devices::OptionsOf(driver), {.mode = devices::CudaBuild::Mode::kAny})
      .gpus.at(0);
}

bool Eventually(const std::function<bool()>& holds) {
  for (int i = 0; i < 4000 && !holds(); ++i) absl::SleepFor(absl::Milliseconds(5));
  return holds();
}

TEST(PinNearTest, OfTheCoresThatMayBeUsedThoseOfTheDevicesNodeAreTaken) {
  const StandInDriver driver("device pci=0000:AF:00.0\n");
  driver.PutOnNode("0000:af:00.0", 1, "4-7");
  const devices::Gpu gpu = GpuOf(driver);
  ASSERT_EQ(gpu.numa_node, 1);
  const NearCores some = CoresNear(gpu, {2, 3, 5, 6}, driver.sysfs());
  EXPECT_THAT(some.cores, ElementsAre(5, 6));
  EXPECT_EQ(some.words, "running on the 2 of 4 cores that are on NUMA node 1, where cuda:0 is");
  // All that may be used are there: nothing to do and nothing to say.
  const NearCores all = CoresNear(gpu, {4, 5}, driver.sysfs());
  EXPECT_THAT(all.cores, IsEmpty());
  EXPECT_EQ(all.words, "");
  const NearCores none = CoresNear(gpu, {0, 1}, driver.sysfs());
  EXPECT_THAT(none.cores, IsEmpty());
  EXPECT_THAT(none.words, HasSubstr("none of the cores of NUMA node 1"));
}

TEST(PinNearTest, ADeviceWithoutANodePinsNothing) {
  const StandInDriver driver("device pci=0000:AF:00.0\n");
  driver.PutOnNode("0000:af:00.0", -1, "");
  const NearCores near = CoresNear(GpuOf(driver), {0, 1}, driver.sysfs());
  EXPECT_THAT(near.cores, IsEmpty());
  EXPECT_EQ(near.words, "");
}

// On a thread of its own: where it may run is the thread's.
TEST(UseDeviceTest, TheThreadsThatComeLaterRunNearTheDeviceUnlessCoresWereNamed) {
  const StandInDriver driver("device cc=90 name=H200 pci=0000:AF:00.0\n");
  const int near = AllowedCores().back();
  driver.PutOnNode("0000:af:00.0", 1, absl::StrCat(near));
  for (const bool named : {false, true}) {
    WorkerOptions options;
    options.fake = true;
    options.device = "cuda:0";
    if (named) options.cores = "0-1023";
    std::vector<int> cores;
    std::thread([&] {
      const StatusOr<devices::ChosenDevice> device = UseDevice(options, devices::OptionsOf(driver));
      ASSERT_TRUE(device.ok()) << device.status();
      EXPECT_EQ(device->device, "cuda:0");
      std::thread([&] { cores = AllowedCores(); }).join();
    }).join();
    EXPECT_EQ(cores, named ? AllowedCores() : std::vector<int>{near});
  }
}

TEST(UseDeviceTest, TheCpuAsksNoDriver) {
  StandInDriver driver("driver cuda_slow_ms=60000\n");
  EXPECT_EQ(UseDevice(WorkerOptions(), devices::OptionsOf(driver))->device, "cpu");
}

TEST(GpuMonitorTest, ReadingsComeAsMetricsOfTheirDevice) {
  const StandInDriver driver(
      "device name=H200 pci=0000:3B:00.0 memory_mb=2048 used_mb=512 temperature=61 throttle=32 "
      "ecc_corrected=3\n");
  const devices::Gpu gpu = GpuOf(driver);
  GpuMonitor monitor(gpu, {.driver_folder = driver.folder(), .interval = absl::Milliseconds(5)});
  ASSERT_TRUE(Eventually([&] { return monitor.latest().has_value(); }));
  MetricsRegistry registry;
  DeviceMetrics metrics(&registry, gpu, &monitor);
  metrics.Publish();
  EXPECT_THAT(registry.Text(),
              AllOf(HasSubstr("coterie_worker_device_memory_used_bytes{device=\"cuda:0\"} 536870912"),
                    HasSubstr("coterie_worker_device_memory_total_bytes{device=\"cuda:0\"} 2147483648"),
                    HasSubstr("coterie_worker_device_temperature_celsius{device=\"cuda:0\"} 61"),
                    HasSubstr("coterie_worker_device_throttled{device=\"cuda:0\",reason=\"thermal\"} 1"),
                    HasSubstr("coterie_worker_device_throttled{device=\"cuda:0\",reason=\"power\"} 0"),
                    HasSubstr("coterie_worker_device_ecc_errors{device=\"cuda:0\",kind=\"corrected\"} 3"),
                    HasSubstr("name=\"H200\""), Not(HasSubstr("power_watts"))));
}

TEST(GpuMonitorTest, ADriverThatHangsHoldsUpNobodyAndItsLastReadingAges) {
  const StandInDriver driver("device pci=0000:3B:00.0 temperature=61\n");
  {
    GpuMonitor monitor(GpuOf(driver), {.driver_folder = driver.folder(), .interval = absl::Milliseconds(5)});
    ASSERT_TRUE(Eventually([&] { return monitor.latest().has_value(); }));
    driver.Write("driver nvml_slow_ms=20000\ndevice pci=0000:3B:00.0 temperature=62\n");
    ASSERT_TRUE(Eventually([&] { return monitor.latest()->age > absl::Milliseconds(500); }));
    EXPECT_EQ(monitor.latest()->reading.temperature_celsius, 61);
  }  // its thread is left behind
}

TEST(GpuMonitorTest, ALostDeviceIsToldOnce) {
  const StandInDriver driver("device name=H200 pci=0000:3B:00.0\n");
  std::atomic<int> n_told = 0;
  absl::Notification told;
  GpuMonitor monitor(GpuOf(driver), {.driver_folder = driver.folder(),
                                     .interval = absl::Milliseconds(5),
                                     .on_lost = [&](const Status& why) {
                                       EXPECT_TRUE(absl::IsUnavailable(why));
                                       EXPECT_THAT(std::string(why.message()),
                                                   HasSubstr("fallen off the bus"));
                                       if (++n_told == 1) told.Notify();
                                     }});
  ASSERT_TRUE(Eventually([&] { return monitor.latest().has_value(); }));
  driver.Write("device name=H200 pci=0000:3B:00.0 lost=1\n");
  told.WaitForNotification();
  absl::SleepFor(absl::Milliseconds(50));
  EXPECT_EQ(n_told, 1);
}

TEST(StepWatchTest, OnlyTheSameStepUnderWayForManyLooksHangs) {
  StepLooks looks(3);
  for (uint64_t step = 0; step < 100; ++step) EXPECT_FALSE(looks.SeesHang(step + 1, step)) << step;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(looks.SeesHang(100, 100)) << "nothing to do";
  // Two in flight, of which the first ends in between; then none ends.
  EXPECT_FALSE(looks.SeesHang(102, 100));
  EXPECT_FALSE(looks.SeesHang(102, 100));
  EXPECT_FALSE(looks.SeesHang(102, 101));
  EXPECT_FALSE(looks.SeesHang(102, 101));
  EXPECT_FALSE(looks.SeesHang(102, 101));
  EXPECT_TRUE(looks.SeesHang(102, 101));
}

TEST(StepWatchTest, AStepThatNeverEndsIsTold) {
  EngineStats stats;
  stats.steps_begun = 8;
  stats.steps = 7;
  absl::Notification told;
  StepWatch watch(&stats, {absl::Milliseconds(100), [&](const Status& why) {
                             EXPECT_THAT(std::string(why.message()),
                                         HasSubstr("step 8 has not ended after 100ms"));
                             told.Notify();
                           }});
  told.WaitForNotification();
}

}  // namespace
}  // namespace coterie::worker
