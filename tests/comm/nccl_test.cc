#include "kernels/comm/nccl.h"

#include <atomic>
#include <cstring>
#include <thread>

#include "tests/comm/backends.h"
#include "tests/comm/nccl_standin.h"

namespace coterie::comm_testing {
namespace {

using ::testing::HasSubstr;

class NcclTest : public ::testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(backend_->Misuse(), ""); }
  Status Sum(Communicator* member, Buffer* buffer, size_t count, const CallOptions& call) {
    return member->AllReduce(buffer->data(), buffer->data(), count, ElementType::kInt32, ReduceOp::kSum,
                             call);
  }
  std::unique_ptr<Backend> backend_ = MakeBackend("nccl");
};

TEST_F(NcclTest, ACallIsOrderedBehindTheWorkInItsStream) {
  auto members = Form(backend_.get(), "g", 1, 2);
  ASSERT_FALSE(members.empty());
  OnThreads(2, [&](int rank) {
    const std::shared_ptr<Buffer> memory = backend_->Allocate(4);
    const CallOptions call = backend_->Call(rank, kLong);
    RunOnStream(call.stream, [data = memory->As<int32_t>()] {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      *data = 21;
    });
    EXPECT_EQ(Sum(members[static_cast<size_t>(rank)].get(), memory.get(), 1, call), absl::OkStatus());
    EXPECT_EQ(memory->Values<int32_t>(1)[0], 42);
  });
}

TEST_F(NcclTest, BuffersMayGoAsSoonAsACallHasFailed) {
  auto members = Form(backend_.get(), "g", 1, 2);
  ASSERT_FALSE(members.empty());
  std::shared_ptr<Buffer> memory = backend_->Allocate(4'000);
  const Status late = Sum(members[0].get(), memory.get(), 1'000, backend_->Call(0, absl::Milliseconds(100)));
  memory.reset();
  EXPECT_EQ(late.code(), absl::StatusCode::kDeadlineExceeded) << late;
  EXPECT_THAT(std::string(late.message()), HasSubstr("member 1 \"m1\" gave no sign of life"));
}

TEST_F(NcclTest, AnErrorOfTheLibraryIsAStatusThatNamesTheMember) {
  uint64_t epoch = 0;
  for (const auto& [error, code] : {std::pair{nccl::kRemoteError, absl::StatusCode::kUnavailable},
                                    std::pair{nccl::kSystemError, absl::StatusCode::kUnavailable},
                                    std::pair{nccl::kUnhandledCudaError, absl::StatusCode::kUnavailable},
                                    std::pair{nccl::kInvalidUsage, absl::StatusCode::kInvalidArgument}}) {
    auto members = Form(backend_.get(), "g", ++epoch, 3);
    ASSERT_FALSE(members.empty());
    OnThreads(3, [&, error = error, code = code](int rank) {
      if (rank == 2) FailNext(error);
      if (rank == 2) members[0]->Abort();  // lost for all of them
      const std::shared_ptr<Buffer> memory = backend_->Allocate(4);
      const Status status = Sum(members[static_cast<size_t>(rank)].get(), memory.get(), 1,
                                backend_->Call(rank, absl::Seconds(1)));
      if (rank == 2) {
        EXPECT_EQ(status.code(), code) << status;
        EXPECT_THAT(std::string(status.message()), HasSubstr("NCCL says"));
        EXPECT_THAT(std::string(status.message()), HasSubstr("(the stand-in was told to fail)"));
      }
      EXPECT_THAT(std::string(status.message()), ::testing::ContainsRegex("\"m[012]\""));
    });
  }
}

TEST_F(NcclTest, MembersOfOtherVersionsOfTheLibraryAreRefusedByName) {
  OnThreads(2, [&](int rank) {
    SetVersion(rank == 0 ? 22800 : 21900);
    const Status status = backend_->Join(Member("g", 1, rank, 2)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()),
                HasSubstr(rank == 0 ? "member 1 \"m1\" has NCCL 21900, this member 22800"
                                    : "member 0 \"m0\" has NCCL 22800, this member 21900"));
  });
}

TEST_F(NcclTest, AMissingLibraryIsNamed) {
  const Status missing = LoadNccl("libnccl-that-is-not-there.so").status();
  if (absl::IsUnimplemented(missing)) {
    EXPECT_THAT(std::string(missing.message()), HasSubstr("COTERIE_NCCL"));
    return;
  }
  EXPECT_EQ(missing.code(), absl::StatusCode::kUnavailable) << missing;
  EXPECT_THAT(std::string(missing.message()), HasSubstr("libnccl-that-is-not-there.so"));
  // Of this machine: it has all, or it is said what it has not.
  const StatusOr<nccl::Calls> here = LoadNccl();
  if (!here.ok()) {
    EXPECT_EQ(here.status().code(), absl::StatusCode::kUnavailable) << here.status();
    EXPECT_THAT(std::string(here.status().message()), HasSubstr("lib"));
    return;
  }
  int version = 0;
  EXPECT_EQ(here->get_version(&version), nccl::kSuccess);
  EXPECT_GE(version, 21400);
}

// The stand-in is believed only because it finds each of these.
TEST_F(NcclTest, TheStandInFindsWhatIsDoneWrong) {
  const nccl::Calls calls = StandInCalls();
  const nccl::Stream stream = CreateStream();
  std::shared_ptr<Buffer> memory = backend_->Allocate(64);
  const auto ready = [&](nccl::Comm comm) {
    nccl::Result state = nccl::kInProgress;
    while (state == nccl::kInProgress) {
      EXPECT_EQ(calls.comm_get_async_error(comm, &state), nccl::kSuccess);
    }
    return state;
  };
  const auto begin = [&](nccl::Comm* comm, int size = 1) {
    nccl::UniqueId id;
    nccl::Config config;
    EXPECT_EQ(calls.get_unique_id(&id), nccl::kSuccess);
    EXPECT_EQ(calls.comm_init_rank_config(comm, size, id, 0, &config), nccl::kInProgress);
  };
  const auto sum = [&](nccl::Comm comm, void* data) {
    return calls.all_reduce(data, data, 4, nccl::kFloat32, nccl::kSum, comm, stream);
  };
  const auto misuse = [] { return TakeMisuse(false); };
  nccl::Comm comm = nullptr;

  begin(&comm, /*size=*/2);  // whose other member never comes: one alone may be ready at once
  sum(comm, memory->data());
  EXPECT_THAT(misuse(), HasSubstr("before what was begun is done"));
  EXPECT_EQ(calls.comm_abort(comm), nccl::kSuccess);

  begin(&comm);
  EXPECT_EQ(ready(comm), nccl::kSuccess);
  std::vector<float> elsewhere(4);
  sum(comm, elsewhere.data());
  EXPECT_THAT(misuse(), HasSubstr("not memory of the device"));
  calls.group_end();
  EXPECT_THAT(misuse(), HasSubstr("without ncclGroupStart"));
  calls.group_start();
  EXPECT_THAT(misuse(), HasSubstr("started and not ended"));
  calls.group_end();
  calls.all_reduce(memory->data(), memory->data(), 4, nccl::kFloat32, nccl::kSum, comm, nullptr);
  EXPECT_THAT(misuse(), HasSubstr("stream that is not there"));

  std::atomic<bool> go = false;
  RunOnStream(stream, [&] {
    while (!go) std::this_thread::yield();
  });
  sum(comm, memory->data());
  memory.reset();
  go = true;
  std::string found;
  while ((found = misuse()).empty()) LetStreamsRun();
  EXPECT_THAT(found, HasSubstr("ncclAllReduce in a stream: 16 bytes are not memory"));
  EXPECT_EQ(calls.comm_abort(comm), nccl::kSuccess);
  calls.comm_abort(comm);
  EXPECT_THAT(misuse(), HasSubstr("not there"));

  begin(&comm);
  EXPECT_EQ(ready(comm), nccl::kSuccess);
  EXPECT_THAT(TakeMisuse(true), HasSubstr("1 communicators never destroyed"));
  go = false;
  std::thread other([&] {
    nccl::Result error = nccl::kSuccess;
    while (!go) calls.comm_get_async_error(comm, &error);
  });
  nccl::Result error = nccl::kSuccess;
  while ((found = misuse()).empty()) calls.comm_get_async_error(comm, &error);
  go = true;
  other.join();
  EXPECT_THAT(found, HasSubstr("while another thread is in the communicator"));
  misuse();
  calls.comm_finalize(comm);
  EXPECT_EQ(ready(comm), nccl::kSuccess);
  calls.comm_finalize(comm);
  EXPECT_THAT(misuse(), HasSubstr("finalized twice"));
  EXPECT_EQ(ready(comm), nccl::kSuccess);
  calls.comm_destroy(comm);
  begin(&comm);
  EXPECT_EQ(ready(comm), nccl::kSuccess);
  calls.comm_destroy(comm);
  EXPECT_THAT(misuse(), HasSubstr("destroyed before it was finalized"));

  // Members that disagree hang, until an abort.
  nccl::UniqueId id;
  EXPECT_EQ(calls.get_unique_id(&id), nccl::kSuccess);
  std::atomic<bool> seen = false;
  OnThreads(2, [&](int rank) {
    nccl::Comm one = nullptr;
    nccl::Config config;
    EXPECT_EQ(calls.comm_init_rank_config(&one, 2, id, rank, &config), nccl::kInProgress);
    EXPECT_EQ(ready(one), nccl::kSuccess);
    const std::shared_ptr<Buffer> data = backend_->Allocate(64);
    const nccl::Stream own = CreateStream();
    calls.all_reduce(data->data(), data->data(), static_cast<size_t>(4 + rank), nccl::kFloat32, nccl::kSum,
                     one, own);
    while (rank == 0 && (found = misuse()).empty()) LetStreamsRun();
    if (rank == 0) seen = true;
    while (!seen) LetStreamsRun();
    EXPECT_EQ(calls.comm_abort(one), nccl::kSuccess);
    DestroyStream(own);
  });
  EXPECT_THAT(found, HasSubstr("float32, member 0, phase 0; expected was AllReduce of"));
  misuse();
  DestroyStream(stream);
}

}  // namespace
}  // namespace coterie::comm_testing
