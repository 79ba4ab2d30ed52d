#include "tests/comm/backends.h"

#include <map>
#include <thread>

#include "common/mutex.h"
#include "gtest/gtest.h"
#include "kernels/comm/gloo.h"
#include "kernels/comm/in_process.h"
#include "kernels/comm/nccl.h"
#include "tests/comm/nccl_standin.h"
#ifdef COTERIE_EMULATED_GPU
#include "tests/comm/emulated_device.h"
#endif

namespace coterie::comm_testing {
namespace {

class InProcessBackend : public Backend {
 public:
  StatusOr<std::unique_ptr<Communicator>> Join(const CommunicatorOptions& options) override {
    return CreateInProcessCommunicator(network_, rendezvous_, options);
  }

 private:
  std::shared_ptr<InProcessNetwork> network_ = std::make_shared<InProcessNetwork>();
};

class GlooBackend : public Backend {
 public:
  StatusOr<std::unique_ptr<Communicator>> Join(const CommunicatorOptions& options) override {
    return CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous_, options);
  }
};

class DeviceBackend : public Backend {
 public:
  ~DeviceBackend() override {
    for (const auto& [rank, stream] : streams_) DestroyStream(stream);
  }
  std::shared_ptr<Buffer> Allocate(size_t n_bytes) override { return AllocateOnStandIn(n_bytes); }
  CallOptions Call(int rank, absl::Duration timeout) override {
    MutexLock lock(&mutex_);
    nccl::Stream& stream = streams_[rank];
    if (stream == nullptr) stream = CreateStream();
    return {.timeout = timeout, .memory = MemoryKind::kDevice, .stream = stream};
  }

 private:
  Mutex mutex_;
  std::map<int, nccl::Stream> streams_ ABSL_GUARDED_BY(mutex_);
};

class NcclBackend : public DeviceBackend {
 public:
  StatusOr<std::unique_ptr<Communicator>> Join(const CommunicatorOptions& options) override {
    return CreateNcclCommunicator(StandInCalls(), rendezvous_, options);
  }
  std::string Misuse() override { return TakeMisuse(/*all_should_be_gone=*/true); }
};

#ifdef COTERIE_EMULATED_GPU
class StagedGlooBackend : public DeviceBackend {
 public:
  StatusOr<std::unique_ptr<Communicator>> Join(const CommunicatorOptions& options) override {
    CommunicatorOptions with_device = options;
    with_device.driver = std::make_shared<const DriverCalls>(EmulatedDriver());
    return CreateGlooCommunicator({.address = "127.0.0.1"}, rendezvous_, with_device);
  }
};
#endif

}  // namespace

std::vector<std::string> BackendNames() {
#ifdef COTERIE_EMULATED_GPU
  return {"in_process", "gloo", "gloo_staged", "nccl"};
#else
  return {"in_process", "gloo", "nccl"};
#endif
}

std::unique_ptr<Backend> MakeBackend(const std::string& name) {
#ifdef COTERIE_EMULATED_GPU
  if (name == "gloo_staged") return std::make_unique<StagedGlooBackend>();
#endif
  if (name == "in_process") return std::make_unique<InProcessBackend>();
  if (name == "gloo") {
    auto gloo = std::make_unique<GlooBackend>();
    if (absl::IsUnimplemented(gloo->Join(Member("probe", 1, 0, 1)).status())) return nullptr;
    gloo->rendezvous().Forget("probe");
    return gloo;
  }
  if (name == "nccl") return std::make_unique<NcclBackend>();
  ADD_FAILURE() << "no backend " << name;
  return nullptr;
}

std::vector<std::string> Names(int n_members) {
  std::vector<std::string> names;
  names.reserve(static_cast<size_t>(n_members));
  for (int rank = 0; rank < n_members; ++rank) names.push_back(absl::StrCat("m", rank));
  return names;
}

CommunicatorOptions Member(const std::string& group, uint64_t epoch, int rank, int n_members) {
  return {.group = group,
          .epoch = epoch,
          .rank = rank,
          .members = Names(n_members),
          .form_timeout = absl::Seconds(60)};
}

void OnThreads(int n_members, const std::function<void(int rank)>& member) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(n_members));
  for (int rank = 0; rank < n_members; ++rank) threads.emplace_back(member, rank);
  for (std::thread& thread : threads) thread.join();
}

std::vector<std::unique_ptr<Communicator>> Form(Backend* backend, const std::string& group, uint64_t epoch,
                                                int n_members) {
  std::vector<std::unique_ptr<Communicator>> members(static_cast<size_t>(n_members));
  OnThreads(n_members, [&](int rank) {
    StatusOr<std::unique_ptr<Communicator>> joined = backend->Join(Member(group, epoch, rank, n_members));
    EXPECT_TRUE(joined.ok()) << joined.status();
    if (joined.ok()) members[static_cast<size_t>(rank)] = *std::move(joined);
  });
  for (const auto& member : members) {
    if (member == nullptr) return {};
  }
  return members;
}

}  // namespace coterie::comm_testing
