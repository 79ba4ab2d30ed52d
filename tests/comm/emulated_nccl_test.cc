#include <cuda_runtime.h>

#include <atomic>
#include <thread>

#include "control.h"
#include "tests/comm/backends.h"
#include "tests/comm/emulated_device.h"
#include "tests/comm/nccl_standin.h"

// Collectives on the emulated GPU: late, in the order of streams and events, on memory of the device.
namespace coterie::comm_testing {
namespace {

using ::testing::HasSubstr;

cudaStream_t Cuda(nccl::Stream stream) { return static_cast<cudaStream_t>(stream); }

class EmulatedNcclTest : public ::testing::Test {
 protected:
  static constexpr int kMembers = 2;

  void SetUp() override {
    nccl::UniqueId id;
    ASSERT_EQ(calls_.get_unique_id(&id), nccl::kSuccess);
    for (int rank = 0; rank < kMembers; ++rank) {
      nccl::Config config;
      ASSERT_EQ(calls_.comm_init_rank_config(&comms_[rank], kMembers, id, rank, &config), nccl::kInProgress);
      streams_[rank] = CreateStream();
      buffers_[rank] = AllocateOnStandIn(4 * sizeof(float));
      buffers_[rank]->Write(std::vector<float>(4, static_cast<float>(rank + 1)));
    }
    for (nccl::Comm comm : comms_) Ready(comm);
  }
  void TearDown() override {
    for (nccl::Comm comm : comms_) calls_.comm_finalize(comm);
    for (nccl::Comm comm : comms_) {
      Ready(comm);
      calls_.comm_destroy(comm);
    }
    for (nccl::Stream stream : streams_) DestroyStream(stream);
    EXPECT_EQ(TakeMisuse(/*all_should_be_gone=*/true), "");
  }

  void Ready(nccl::Comm comm) {
    nccl::Result state = nccl::kInProgress;
    while (state == nccl::kInProgress) {
      ASSERT_EQ(calls_.comm_get_async_error(comm, &state), nccl::kSuccess);
    }
    EXPECT_EQ(state, nccl::kSuccess);
  }
  // Enqueues a member's sum in its stream.
  void Sum(int rank) {
    void* const data = buffers_[rank]->data();
    calls_.all_reduce(data, data, 4, nccl::kFloat32, nccl::kSum, comms_[rank], streams_[rank]);
    Ready(comms_[rank]);
  }
  // As it stands there now: a copy on the null stream, which waits for no other.
  float Value(int rank) { return buffers_[rank]->Values<float>(1)[0]; }

  const nccl::Calls calls_ = StandInCalls();
  nccl::Comm comms_[kMembers] = {};
  nccl::Stream streams_[kMembers] = {};
  std::shared_ptr<Buffer> buffers_[kMembers];
};

TEST_F(EmulatedNcclTest, ACollectiveIsDoneWhenItsStreamIsWaitedForAndNotBefore) {
  Sum(0);
  Sum(1);
  EXPECT_EQ(Value(0), 1);
  EXPECT_EQ(Value(1), 2);
  EXPECT_EQ(cudaStreamSynchronize(Cuda(streams_[0])), cudaSuccess);
  EXPECT_EQ(Value(0), 3);
  EXPECT_EQ(cudaStreamSynchronize(Cuda(streams_[1])), cudaSuccess);
  EXPECT_EQ(Value(1), 3);
}

TEST_F(EmulatedNcclTest, WhoeverWaitsForAStreamWaitsForTheMembersOfItsCollective) {
  Sum(0);
  std::atomic<bool> done = false;
  std::thread waits([&] {
    EXPECT_EQ(cudaStreamSynchronize(Cuda(streams_[0])), cudaSuccess);
    done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(done);
  Sum(1);
  waits.join();
  EXPECT_EQ(Value(0), 3);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(Value(1), 3);
}

TEST_F(EmulatedNcclTest, EventsOrderCollectivesAndOtherStreams) {
  const nccl::Stream other = CreateStream();
  const std::shared_ptr<Buffer> copy = AllocateOnStandIn(sizeof(float));
  const auto copied = [&] {
    EXPECT_EQ(cudaMemcpyAsync(copy->data(), buffers_[0]->data(), sizeof(float), cudaMemcpyDeviceToDevice,
                              Cuda(other)),
              cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(Cuda(other)), cudaSuccess);
    return copy->Values<float>(1)[0];
  };
  Sum(0);
  EXPECT_EQ(copied(), 1);  // a missing event is seen: the collective still waits for the other member
  Sum(1);
  cudaEvent_t event = nullptr;
  EXPECT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, Cuda(streams_[0])), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(Cuda(other), event, 0), cudaSuccess);
  EXPECT_EQ(copied(), 3);
  // The other way round: the collective takes what stands before it in its own stream, and behind an event.
  EXPECT_EQ(cudaMemsetAsync(buffers_[0]->data(), 0, 4 * sizeof(float), Cuda(other)), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, Cuda(other)), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(Cuda(streams_[0]), event, 0), cudaSuccess);
  Sum(0);
  Sum(1);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(Cuda(streams_[0])), cudaSuccess);
  EXPECT_EQ(Value(0), 3);  // 0 of the one, 3 of the other
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  DestroyStream(other);
}

TEST_F(EmulatedNcclTest, ABufferFreedBeforeTheStreamComesToItIsFound) {
  std::atomic<bool> go = false;
  RunOnStream(streams_[0], [&] {
    while (!go) std::this_thread::yield();
  });
  Sum(0);
  Sum(1);
  buffers_[0].reset();
  EXPECT_EQ(TakeMisuse(false), "");  // not used yet
  go = true;
  std::string found;
  while ((found = TakeMisuse(false)).empty()) cudaStreamQuery(Cuda(streams_[0]));
  EXPECT_THAT(found, HasSubstr("ncclAllReduce in a stream: 16 bytes are not memory of the device"));
  // Its kernel never ends but by an abort, and neither does the other's.
  for (nccl::Comm& comm : comms_) calls_.comm_abort(comm);
  nccl::UniqueId id;
  EXPECT_EQ(calls_.get_unique_id(&id), nccl::kSuccess);
  for (int rank = 0; rank < kMembers; ++rank) {
    nccl::Config config;
    EXPECT_EQ(calls_.comm_init_rank_config(&comms_[rank], kMembers, id, rank, &config), nccl::kInProgress);
  }
  for (nccl::Comm comm : comms_) Ready(comm);
}

TEST_F(EmulatedNcclTest, MemoryOfTheHostIsFoundPinnedOrNot) {
  void* pinned = nullptr;
  EXPECT_EQ(cudaHostAlloc(&pinned, 16, cudaHostAllocDefault), cudaSuccess);
  std::vector<float> pageable(4);
  for (void* data : {pinned, static_cast<void*>(pageable.data()),
                     static_cast<void*>(buffers_[0]->data() + 4 * sizeof(float))}) {
    EXPECT_EQ(calls_.all_reduce(data, data, 4, nccl::kFloat32, nccl::kSum, comms_[0], streams_[0]),
              nccl::kInvalidArgument);
    EXPECT_THAT(TakeMisuse(false), HasSubstr("ncclAllReduce: 16 bytes are not memory of the device"));
  }
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
}

// The whole communicators, when the device falls off the bus.
TEST(EmulatedDeviceTest, ALostDeviceIsNamedAndTheOthersAreTold) {
  for (const char* name : {"nccl", "gloo_staged"}) {
    SCOPED_TRACE(name);
    std::unique_ptr<Backend> backend = MakeBackend(name);
    auto members = Form(backend.get(), "g", 1, 2);
    ASSERT_FALSE(members.empty());
    std::vector<std::shared_ptr<Buffer>> data;
    for (int rank : {0, 1}) {
      data.push_back(backend->Allocate(64));
      (void)backend->Call(rank, kLong);  // makes the stream
    }
    emulation::LoseDeviceAfter(0);
    OnThreads(2, [&](int rank) {
      const auto r = static_cast<size_t>(rank);
      const Status lost = members[r]->AllReduce(data[r]->data(), data[r]->data(), 16, ElementType::kFloat32,
                                                ReduceOp::kSum, backend->Call(rank, absl::Seconds(20)));
      EXPECT_EQ(lost.code(), absl::StatusCode::kUnavailable) << lost;
      EXPECT_THAT(std::string(lost.message()), HasSubstr("CUDA error 999"));
    });
    members.clear();
    data.clear();
    EXPECT_EQ(backend->Misuse(), "");
    backend.reset();
    emulation::ForgetFailures();
  }
}

TEST(EmulatedDeviceTest, ADeviceOutOfMemoryIsToldToAll) {
  const std::unique_ptr<Backend> backend = MakeBackend("gloo_staged");
  for (const int n_before : {0, 1}) {  // the event, and the pinned memory
    auto members = Form(backend.get(), "g", static_cast<uint64_t>(n_before), 2);
    ASSERT_FALSE(members.empty());
    const std::shared_ptr<Buffer> data = backend->Allocate(64);
    const CallOptions first = backend->Call(0, kLong), second = backend->Call(1, kLong);
    emulation::FailAllocationAfter(n_before);
    const Status full = members[0]->Broadcast(data->data(), 64, ElementType::kUint8, 0, first);
    emulation::ForgetFailures();
    EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
    EXPECT_THAT(std::string(full.message()), HasSubstr("the device of member 0 \"m0\" is out of memory"));
    const Status told = members[1]->Broadcast(data->data(), 64, ElementType::kUint8, 0, second);
    EXPECT_EQ(told.code(), absl::StatusCode::kUnavailable) << told;
    EXPECT_THAT(std::string(told.message()), HasSubstr("is out of memory"));
  }
}

TEST(EmulatedDeviceTest, AStreamThatStandsStillEndsTheCallByItsDeadline) {
  for (const char* name : {"nccl", "gloo_staged"}) {
    SCOPED_TRACE(name);
    const std::unique_ptr<Backend> backend = MakeBackend(name);
    auto members = Form(backend.get(), "g", 1, 2);
    ASSERT_FALSE(members.empty());
    std::atomic<bool> go = false;
    const CallOptions call = backend->Call(0, absl::Milliseconds(100));
    RunOnStream(call.stream, [&] {
      while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
    const std::shared_ptr<Buffer> data = backend->Allocate(64);
    const Status late = members[0]->Broadcast(data->data(), 64, ElementType::kUint8, 0, call);
    EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
    EXPECT_THAT(std::string(late.message()), HasSubstr("within 100ms"));
    go = true;
    EXPECT_EQ(cudaStreamSynchronize(Cuda(call.stream)), cudaSuccess);
  }
}

}  // namespace
}  // namespace coterie::comm_testing
