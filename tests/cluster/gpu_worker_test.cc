// Workers on GPUs that a stand-in driver shows; what they compute is fake, all around it is not.
#include <algorithm>

#include "common/exit_code.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/gpu/drivers/stand_in_driver.h"

namespace coterie::cluster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kGpu[] = "device cc=90 name=H200 pci=0000:3B:00.0 memory_mb=2048 used_mb=512 temperature=61";

class GpuWorkerTest : public ClusterTest {
 protected:
  std::unique_ptr<WorkerProcess> StartWorkerOn(const StandInDriver& driver, const std::string& id,
                                               std::vector<std::string> more) {
    Process::Surroundings surroundings;
    surroundings.environment = {"COTERIE_DRIVER_FOLDER=" + driver.folder().string()};
    Surround(surroundings);
    std::unique_ptr<WorkerProcess> worker = StartWorker(id, more);
    Surround({});
    return worker;
  }
};

TEST_F(GpuWorkerTest, ReadingsAreMetricsAndStatusNamesTheDevice) {
  const StandInDriver driver(std::string(kGpu) + "\n");
  const auto gpu = StartWorkerOn(driver, "w0", {"--device=auto"});
  const auto cpu = StartWorkerOn(driver, "w1", {"--device=cpu"});
  const auto gateway = StartGateway({gpu->address(), cpu->address()});
  EXPECT_TRUE(Eventually([&] {
    return gpu->Metrics().find("coterie_worker_device_temperature_celsius{device=\"cuda:0\"} 61") !=
           std::string::npos;
  })) << gpu->Metrics();
  EXPECT_THAT(gpu->Metrics(), AllOf(HasSubstr("coterie_worker_device_memory_used_bytes{device=\"cuda:0\"}"),
                                    HasSubstr("coterie_worker_device_reading_age_seconds")));
  EXPECT_THAT(cpu->Metrics(), Not(HasSubstr("coterie_worker_device_")));
  const v1::StatusResponse status = gateway->Status();
  for (const v1::WorkerStatus& worker : status.workers()) {
    EXPECT_EQ(worker.device(), worker.worker_id() == "w0" ? "cuda:0" : "cpu");
    EXPECT_EQ(worker.device_name(), "none (the fake model)");
    EXPECT_TRUE(worker.batch_invariant());
  }
}

// The hardest case: the driver calls the device lost, and the engine's thread is held by a step.
TEST_F(GpuWorkerTest, AnswersLeaveADeviceThatFellOffTheBusThoughItsStepHangs) {
  const StandInDriver driver(std::string(kGpu) + "\n");
  const auto lost = StartWorkerOn(driver, "w0", {"--device=cuda:0", "--fake-hang-device-at=60"});
  const auto whole = StartWorkerOn(driver, "w1", {"--device=cpu"});
  const std::vector<v1::GenerateRequest> requests = Questions("base", 8);
  std::vector<std::string> expected;
  {
    const auto alone = StartGateway({whole->address()});
    expected = AskAll(*alone, requests);
  }
  const auto gateway = StartGateway({lost->address(), whole->address()});
  Asking asking({gateway->generation.get()}, requests);
  ASSERT_TRUE(Eventually([&] {
    const v1::StatusResponse status = gateway->Status();
    return std::any_of(status.workers().begin(), status.workers().end(), [](const v1::WorkerStatus& worker) {
      return worker.worker_id() == "w0" && worker.running() > 0;
    });
  }));
  driver.Write(std::string(kGpu) + " lost=1\n");
  EXPECT_EQ(Texts(asking.Join()), expected);
  EXPECT_EQ(lost->process->Wait(), kDeviceLostExitCode);
  EXPECT_THAT(lost->process->Errors(),
              HasSubstr("device cuda:0 is lost: the GPU has fallen off the bus (NVML error 15)"));
}

}  // namespace
}  // namespace coterie::cluster
