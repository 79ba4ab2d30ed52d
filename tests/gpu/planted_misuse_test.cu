// Memory that is not there or not set yet, and callers that do not wait, or ask for what a GPU refuses.
#include <gtest/gtest.h>

#include <cmath>

#include "control.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "tests/gpu/planted_faults.h"

namespace coterie::cuda {
namespace {

using emulation::Order;
using PlantedMisuseTest = PlantedTest;
using PlantedMisuseDeathTest = PlantedTest;

// --- Memory ---
__global__ void WriteShared(int at) {
  if (threadIdx.x == 0) SharedMemory<float>()[at] = 1;
}
__global__ void WriteGlobal(float* to, int at) {
  if (threadIdx.x == 0) to[at] = 1;
}
__global__ void ReadGlobal(const float* from, int at, float* out) {
  if (threadIdx.x == 0) *out = from[at];
}
TEST_F(PlantedMisuseDeathTest, WritingBehindSharedMemory) {
  EXPECT_DEATH(Run(WriteShared, 1, 32, 64, 16),
               "behind the 64 bytes of shared memory|AddressSanitizer: use-after-poison");
}
TEST_F(PlantedMisuseDeathTest, WritingJustBehindGlobalMemory) {
  ONLY_IN_THE_ASAN_BUILD();
  float* to = Floats(25);
  EXPECT_DEATH(Run(WriteGlobal, 1, 32, 0, to, 25), "AddressSanitizer: use-after-poison");
}
TEST_F(PlantedMisuseDeathTest, ReadingJustBehindGlobalMemory) {
  ONLY_IN_THE_ASAN_BUILD();
  float *from = Floats(25), *out = Floats(1);
  EXPECT_DEATH(Run(ReadGlobal, 1, 32, 0, static_cast<const float*>(from), 25, out),
               "AddressSanitizer: use-after-poison");
}
TEST_F(PlantedMisuseDeathTest, ReadingJustBeforeGlobalMemory) {
  ONLY_IN_THE_ASAN_BUILD();
  float *from = Floats(25), *out = Floats(1);
  EXPECT_DEATH(Run(ReadGlobal, 1, 32, 0, static_cast<const float*>(from), -1, out),
               "AddressSanitizer: use-after-poison");
}
constexpr char kFault[] =
    "GPU emulation: a kernel.*touches memory behind|Sanitizer: SEGV|Sanitizer:DEADLYSIGNAL";
TEST_F(PlantedMisuseDeathTest, ReadingFarBehindGlobalMemory) {
  float *from = Floats(25), *out = Floats(1);
  EXPECT_DEATH(Run(ReadGlobal, 1, 32, 0, static_cast<const float*>(from), 100, out), kFault);
}
TEST_F(PlantedMisuseTest, WhatWasNeverWrittenIsNaN) {
  float *from = Floats(25), *out = Floats(1);
  Run(ReadGlobal, 1, 32, 0, static_cast<const float*>(from), 7, out);
  float got = 0;
  ASSERT_EQ(cudaMemcpy(&got, out, sizeof(got), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(std::isnan(got));
}
__global__ void ReadPiece(const float* from, int at, float4* out) {
  if (threadIdx.x == 0) *out = *reinterpret_cast<const float4*>(from + at);
}
TEST_F(PlantedMisuseDeathTest, ReadingPiecesThatAreNotAligned) {
  if (kThreadSanitizer) GTEST_SKIP() << "all other builds find this";
  float* from = Floats(25);
  auto* const out = static_cast<float4*>(Bytes(sizeof(float4)));
  Run(ReadPiece, 1, 32, 0, static_cast<const float*>(from), 4, out);
  EXPECT_DEATH(Run(ReadPiece, 1, 32, 0, static_cast<const float*>(from), 2, out), "misaligned address");
}
__global__ void ReadShared(float* out) {
  if (threadIdx.x == 0) *out = SharedMemory<float>()[3];
}
TEST_F(PlantedMisuseTest, SharedMemoryOfTheBlockBeforeIsGone) {
  float* out = Floats(1);
  Run(WriteShared, 1, 32, 64, 3);
  Run(ReadShared, 1, 32, 64, out);
  float got = 0;
  ASSERT_EQ(cudaMemcpy(&got, out, sizeof(got), cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_TRUE(std::isnan(got));
}
__global__ void ReadFour(const float* from, float4* out) {
  if (threadIdx.x == 0) *out = *reinterpret_cast<const float4*>(from + 1);
}
TEST_F(PlantedMisuseDeathTest, AMisalignedVector) {
  ONLY_IN_THE_ASAN_BUILD();
  const float* from = Floats(8);
  auto* out = static_cast<float4*>(Bytes(16));
  EXPECT_DEATH(Run(ReadFour, 1, 32, 0, from, out), "misaligned address");
}
struct HiddenPointer {
  float* to;
};
__global__ void WriteHidden(HiddenPointer hidden) {
  if (threadIdx.x == 0) *hidden.to = 1;
}
TEST_F(PlantedMisuseDeathTest, AGraphWhoseMemoryWasFreed) {
  void* to = nullptr;
  ASSERT_EQ(cudaMalloc(&to, 4), cudaSuccess);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  Launch(WriteHidden, 1, 32, 0, stream_, HiddenPointer{static_cast<float*>(to)});
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
  ASSERT_EQ(cudaFree(to), cudaSuccess);
  EXPECT_DEATH(
      {
        cudaGraphLaunch(exec, stream_);
        cudaStreamSynchronize(stream_);
      },
      kFreed);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}
TEST_F(PlantedMisuseDeathTest, AKernelThatGetsAPointerOfTheHost) {
  float value = 0;
  EXPECT_DEATH(Launch(WriteGlobal, 1, 32, 0, stream_, &value, 0), "pointer to the host's memory");
  float* const freed = Floats(1);
  device_.pop_back();
  ASSERT_EQ(cudaFree(freed), cudaSuccess);
  EXPECT_DEATH(Launch(WriteGlobal, 1, 32, 0, stream_, freed, 0), "memory that was freed");
}
TEST_F(PlantedMisuseDeathTest, TheHostReadsDeviceMemory) {
  emulation::TheSettings().protect = true;
  const volatile float* device = Floats(1);
  Run(WriteGlobal, 1, 32, 0, const_cast<float*>(device), 0);
  EXPECT_DEATH(static_cast<void>(*device),
               "the caller: touches device memory|Sanitizer: SEGV|Sanitizer:DEADLYSIGNAL");
  ASSERT_EQ(cudaFree(device_.back()), cudaSuccess);
  device_.pop_back();
}

// --- What callers forget ---
TEST_F(PlantedMisuseDeathTest, APinnedSourceThatChangesTooEarly) {
  ONLY_IN_THE_TSAN_BUILD();
  float *host = Pinned(), *device = Floats(1);
  EXPECT_DEATH(
      {
        cudaMemcpyAsync(device, host, sizeof(*host), cudaMemcpyHostToDevice, stream_);
        *host = 1;
        cudaStreamSynchronize(stream_);
      },
      kRace);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}
TEST_F(PlantedMisuseDeathTest, AResultThatIsReadTooEarly) {
  ONLY_IN_THE_TSAN_BUILD();
  float *host = Pinned(), *device = Floats(1);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_DEATH(
      {
        cudaMemcpyAsync(host, device, sizeof(*host), cudaMemcpyDeviceToHost, stream_);
        cudaEventRecord(event, stream_);
        cudaEventQuery(event);  // not ready, but the copy may be done by now
        volatile float got = *host;
        static_cast<void>(got);
        cudaStreamSynchronize(stream_);
      },
      kRace);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}
TEST_F(PlantedMisuseTest, WhatIsWaitedForIsSilent) {
  float *host = Pinned(), *device = Floats(1);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  for (int i = 0; i < 5; ++i) {
    *host = static_cast<float>(i);
    ASSERT_EQ(cudaMemcpyAsync(device, host, sizeof(*host), cudaMemcpyHostToDevice, stream_), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
    while (cudaEventQuery(event) != cudaSuccess) {
    }
    *host = 0;
    ASSERT_EQ(cudaMemcpyAsync(host, device, sizeof(*host), cudaMemcpyDeviceToHost, stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(*host, static_cast<float>(i));
  }
  cudaGetLastError();
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(host), cudaSuccess);
}
__global__ void AddTo(float* to) {
  if (threadIdx.x == 3) *to += 1;
}
TEST_F(PlantedMisuseTest, MemoryThatIsSetOrCopiedAndNotWaitedFor) {
  if (kThreadSanitizer) GTEST_SKIP() << "a race, whose report ends the process: the next test";
  float *from = Floats(1), *out = Floats(1);
  const auto read = [&] {
    Launch(ReadGlobal, 1, 32, 0, stream_, static_cast<const float*>(from), 0, out);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    float got = 0;
    EXPECT_EQ(cudaMemcpy(&got, out, sizeof(got), cudaMemcpyDeviceToHost), cudaSuccess);
    return got;
  };
  ASSERT_EQ(cudaMemset(from, 0, sizeof(*from)), cudaSuccess);
  EXPECT_TRUE(std::isnan(read()));  // the stream did not wait for that of the fill
  EXPECT_EQ(read(), 0.0f);          // which cudaMemcpy waited for
  const float one = 1;
  ASSERT_EQ(cudaMemcpy(from, &one, sizeof(one), cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(read(), 0.0f);
  ASSERT_TRUE(CopyToDevice(from, &one, sizeof(one), "a value").ok());
  EXPECT_EQ(read(), 1.0f);
}
TEST_F(PlantedMisuseDeathTest, RaceWithAFillThatWasNotWaitedFor) {
  ONLY_IN_THE_TSAN_BUILD();
  float *from = Floats(1), *out = Floats(1);
  EXPECT_DEATH(
      {
        cudaMemset(from, 0, sizeof(*from));
        Launch(ReadGlobal, 1, 32, 0, stream_, static_cast<const float*>(from), 0, out);
        cudaDeviceSynchronize();
      },
      kRace);
}
class TwoStreamsTest : public PlantedTest {
 protected:
  void Both(bool with_event) {
    float* to = Floats(1);
    cudaStream_t other;
    cudaEvent_t event;
    ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
    for (int i = 0; i < 3; ++i) {
      Launch(AddTo, 1, 32, 0, stream_, to);
      ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
      if (with_event) cudaStreamWaitEvent(other, event);
      Launch(AddTo, 1, 32, 0, other, to);
      ASSERT_EQ(cudaEventRecord(event, other), cudaSuccess);
      if (with_event) cudaStreamWaitEvent(stream_, event);
    }
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
    ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
  }
};
using TwoStreamsDeathTest = TwoStreamsTest;
TEST_F(TwoStreamsTest, OrderedByEventsAreSilent) { Both(true); }
TEST_F(TwoStreamsDeathTest, RaceWithoutAnEvent) {
  ONLY_IN_THE_TSAN_BUILD();
  EXPECT_DEATH(Both(false), kRace);
}
TEST_F(PlantedMisuseDeathTest, LaunchesThatAGpuRefuses) {
  float* to = Floats(1);
  EXPECT_DEATH(Launch(WriteGlobal, 1, 1056, 0, stream_, to, 0), "at most 1,024 threads");
  EXPECT_DEATH(Launch(WriteGlobal, 1, 40, 0, stream_, to, 0), "whole warps");
  EXPECT_DEATH(Launch(WriteGlobal, dim3(1, 65536), 32, 0, stream_, to, 0), "65,535");
  EXPECT_DEATH(Launch(WriteGlobal, 0, 32, 0, stream_, to, 0), "without blocks");
  EXPECT_DEATH(Launch(WriteGlobal, 1, 32, 227 * 1024 + 1, stream_, to, 0), "bytes of shared memory");
  emulation::TheSettings().shared_bytes = 99 * 1024;  // of other devices
  EXPECT_DEATH(Launch(WriteGlobal, 1, 32, 99 * 1024 + 1, stream_, to, 0), "of at most 101376");
}
TEST_F(PlantedMisuseDeathTest, ADeviceThatIsNotTheThreads) {
  emulation::TheSettings().n_devices = 2;
  float* to = Floats(1);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  EXPECT_DEATH(Launch(WriteGlobal, 1, 32, 0, stream_, to, 0),
               "a stream of device 0 by a thread whose device is 1");
  cudaStream_t other;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, other), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaStreamDestroy(other), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
}
TEST_F(PlantedMisuseDeathTest, AllocatingWhileCapturing) {
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  void* pointer = nullptr;
  EXPECT_DEATH(cudaMalloc(&pointer, 16), "an allocation while this thread captures");
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}
TEST_F(PlantedMisuseTest, AnErrorStaysUntilItIsAskedFor) {
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, stream_), cudaSuccess);
  ASSERT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaGetLastError(), cudaErrorNotReady);  // as CUDA's own does
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_EQ(cudaEventDestroy(event), cudaSuccess);
}

}  // namespace
}  // namespace coterie::cuda
