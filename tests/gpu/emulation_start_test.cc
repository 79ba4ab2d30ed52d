// Why a device cannot be used, in words, where the backend comes to it: after the driver was asked
// (kernels/devices), things may have changed.
#include <cuda_runtime.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control.h"
#include "kernels/create.h"

namespace coterie::cuda {
namespace {

using emulation::Settings;
using ::testing::HasSubstr;

class CudaStartTest : public ::testing::Test {
 protected:
  void TearDown() override { emulation::TheSettings() = settings_; }
  Status Start(const Settings& settings, int device = 0) {
    emulation::TheSettings() = settings;
    CudaBackendOptions options;
    options.device = device;
    return CreateCudaDecoderOps(options).status();
  }
  const Settings settings_ = emulation::TheSettings();
};

TEST_F(CudaStartTest, EachReasonAgainstADeviceIsNamed) {
  Settings none, old, few, t4, busy, foreign, narrow;
  none.n_devices = 0;
  old.driver_version = 12040;
  few.n_devices = 2;
  t4.compute_major = 7;
  t4.compute_minor = 5;
  narrow.shared_bytes = 64 << 10;
  busy.refusal = cudaErrorDevicesUnavailable;
  foreign.refusal = cudaErrorNoKernelImageForDevice;
  const struct {
    Settings settings;
    int device;
    const char* words;
  } refusals[] = {
      {none, 0, "device cuda:0: cudaErrorNoDevice"},
      {old, 0, "update the NVIDIA driver"},
      {few, 2, "device cuda:2: there are 2 devices"},
      {t4, 0, "has compute capability 7.5; at least 8.0 is needed"},
      {narrow, 0, "gives a block 64 KiB of shared memory; at least 99 are needed"},
      {busy, 0, "it is busy or in exclusive mode; end what computes on it, or take another"},
      {foreign, 0, "this build has no code for it"},
  };
  for (const auto& [settings, device, words] : refusals) {
    const Status status = Start(settings, device);
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    EXPECT_THAT(std::string(status.message()), HasSubstr("device cuda:" + std::to_string(device)));
    // Nothing of it is left for whoever comes next.
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    EXPECT_TRUE(Start(settings_).ok());
  }
}

TEST_F(CudaStartTest, ADeviceWithoutMemoryForAStreamIsFullAndNotLost) {
  emulation::FailAllocationAfter(0);
  const Status full = Start(settings_);
  emulation::ForgetFailures();
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_TRUE(Start(settings_).ok());
}

}  // namespace
}  // namespace coterie::cuda
