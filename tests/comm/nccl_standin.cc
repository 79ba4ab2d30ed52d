#include "tests/comm/nccl_standin.h"

#include <atomic>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/random.h"
#include "kernels/comm/in_process.h"
#include "kernels/comm/in_process_rendezvous.h"
#include "tests/comm/backends.h"
#include "tests/comm/standin_device.h"

namespace coterie::nccl {

// What NCCL's handle points to.
struct OpaqueComm {};

}  // namespace coterie::nccl

namespace coterie::comm_testing {
namespace {

using nccl::Comm;
using nccl::Result;
using nccl::Stream;

constexpr absl::Duration kNcclPatience = absl::Hours(1);  // NCCL itself waits for ever

void Misused(const std::string& how) { StandInDevice::Get().Report(how); }

// Up to three times, what is done is said to be in progress.
int SomeTurns() {
  static std::atomic<uint64_t> n_drawn = 0;
  return static_cast<int>(Mix(++n_drawn) % 4);
}

struct StandInComm : nccl::OpaqueComm {
  enum State { kForming, kReady, kFinalized, kAborted };

  int rank = 0, size = 0;
  std::string group;
  std::shared_ptr<AbortFlag> abort = std::make_shared<AbortFlag>();
  std::unique_ptr<Communicator> member;  // from kReady on
  std::atomic<State> state = kForming;
  std::atomic<Result> error = nccl::kSuccess;
  std::atomic<int> turns = 0;        // so often "in progress" before what was begun is done
  std::atomic<int> n_under_way = 0;  // calls in streams
  std::atomic<bool> in_use = false;
  Mutex one_at_a_time;  // calls of several streams
  std::thread forming;

  ~StandInComm() {
    if (forming.joinable()) forming.join();
  }
};

struct Operation {
  std::shared_ptr<StandInComm> comm;
  Stream stream = nullptr;
  std::string what;
  std::vector<std::pair<const void*, size_t>> buffers;
  std::function<Status(Communicator*)> run;
};

struct World {
  Mutex mutex;
  std::map<Comm, std::shared_ptr<StandInComm>> comms ABSL_GUARDED_BY(mutex);
  std::atomic<uint64_t> n_ids = 0;
  std::shared_ptr<InProcessNetwork> network = std::make_shared<InProcessNetwork>();
  std::shared_ptr<InProcessRendezvous> rendezvous = std::make_shared<InProcessRendezvous>();
};

World& TheWorld() {
  static World* const world = new World;
  return *world;
}

thread_local int group_depth = 0;
thread_local std::vector<Operation> grouped;
thread_local Result next_failure = nccl::kSuccess;
thread_local int version_of_thread = 22800;

// Finds a communicator and holds it for one function: another thread inside one at the same time is misuse.
class Use {
 public:
  Use(Comm comm, const char* function) {
    {
      World& world = TheWorld();
      MutexLock lock(&world.mutex);
      if (const auto found = world.comms.find(comm); found != world.comms.end()) comm_ = found->second;
    }
    if (comm_ == nullptr) {
      Misused(absl::StrCat(function, " on a communicator that is not there"));
      return;
    }
    if (comm_->in_use.exchange(true))
      Misused(absl::StrCat(function, " while another thread is in the communicator"));
  }
  ~Use() {
    if (comm_ != nullptr) comm_->in_use = false;
  }
  explicit operator bool() const { return comm_ != nullptr; }
  StandInComm* operator->() const { return comm_.get(); }
  const std::shared_ptr<StandInComm>& get() const { return comm_; }

 private:
  std::shared_ptr<StandInComm> comm_;
};

void Forget(Comm comm) {
  World& world = TheWorld();
  MutexLock lock(&world.mutex);
  world.comms.erase(comm);
}

// The kernel of an operation: it ends when it is done or aborted.
void RunKernel(const Operation& operation) {
  StandInComm& comm = *operation.comm;
  MutexLock lock(&comm.one_at_a_time);
  bool sound = true;
  for (const auto& [data, n_bytes] : operation.buffers) {
    sound = StandInDevice::Get().CheckMemory(data, n_bytes, operation.what + " in a stream") && sound;
  }
  const Status status =
      sound && comm.error == nccl::kSuccess ? operation.run(comm.member.get()) : absl::UnknownError("");
  for (const auto& [data, n_bytes] : operation.buffers) {
    if (sound) StandInDevice::Get().CheckMemory(data, n_bytes, operation.what + " that has just ended");
  }
  if (!status.ok()) {
    if (absl::IsInvalidArgument(status)) Misused(std::string(status.message()));
    if (absl::IsUnavailable(status) && SomeTurns() < 2) comm.error = nccl::kRemoteError;
    while (!comm.abort->raised()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));  // longer than the abort itself
  }
  --comm.n_under_way;
}

Result Launch(Operation operation) {
  StandInComm& comm = *operation.comm;
  if (const Result failure = std::exchange(next_failure, nccl::kSuccess); failure != nccl::kSuccess) {
    comm.error = failure;
  }
  ++comm.n_under_way;
  comm.turns = SomeTurns();
  const Stream stream = operation.stream;
  StandInDevice::Get().Push(stream, [operation = std::move(operation)] { RunKernel(operation); });
  return comm.turns > 0 ? nccl::kInProgress : nccl::kSuccess;
}

Result Enqueue(Comm comm, Stream stream, const std::string& what,
               std::vector<std::pair<const void*, size_t>> buffers,
               std::function<Status(Communicator*)> run) {
  Use use(comm, what.c_str());
  if (!use) return nccl::kInvalidArgument;
  if (use->state != StandInComm::kReady || use->turns > 0) {
    Misused(absl::StrCat(what, " before what was begun is done"));
    return nccl::kInvalidUsage;
  }
  if (!StandInDevice::Get().CheckStream(stream)) return nccl::kInvalidArgument;
  for (const auto& [data, n_bytes] : buffers) {
    if (!StandInDevice::Get().CheckMemory(data, n_bytes, what)) return nccl::kInvalidArgument;
  }
  if (buffers.front().second == 0) return nccl::kSuccess;  // as in NCCL: nothing happens
  Operation operation{use.get(), stream, what, std::move(buffers), std::move(run)};
  if (group_depth == 0) return Launch(std::move(operation));
  grouped.push_back(std::move(operation));
  return nccl::kSuccess;
}

ElementType OurType(nccl::DataType type) {
  switch (type) {
    case nccl::kFloat32:
      return ElementType::kFloat32;
    case nccl::kBfloat16:
      return ElementType::kBFloat16;
    case nccl::kFloat16:
      return ElementType::kFloat16;
    case nccl::kInt32:
      return ElementType::kInt32;
    case nccl::kUint8:
      return ElementType::kUint8;
  }
  Misused(absl::StrCat("data type ", static_cast<int>(type)));
  return ElementType::kUint8;
}

Result GetVersion(int* version) {
  *version = version_of_thread;
  return nccl::kSuccess;
}

Result GetUniqueId(nccl::UniqueId* id) {
  std::memset(id, 0, sizeof(*id));
  const uint64_t number = ++TheWorld().n_ids;
  std::memcpy(id, &number, sizeof(number));
  return nccl::kSuccess;
}

Result CommInitRankConfig(Comm* out, int size, nccl::UniqueId id, int rank, nccl::Config* config) {
  if (config->magic != 0xcafebeef || config->size < sizeof(nccl::Config) || config->blocking != 0) {
    Misused("a configuration that is not initialised, or blocks");
    return nccl::kInvalidArgument;
  }
  auto comm = std::make_shared<StandInComm>();
  uint64_t number = 0;
  std::memcpy(&number, &id, sizeof(number));
  comm->rank = rank;
  comm->size = size;
  comm->group = absl::StrCat("nccl ", number);
  comm->turns = SomeTurns();
  CommunicatorOptions options = Member(comm->group, 1, rank, size);
  options.form_timeout = kNcclPatience;
  options.abort = comm->abort;
  comm->forming = std::thread([comm = comm.get(), options] {
    World& world = TheWorld();
    StatusOr<std::unique_ptr<Communicator>> formed =
        CreateInProcessCommunicator(world.network, world.rendezvous, options);
    if (formed.ok()) {
      comm->member = *std::move(formed);
      world.rendezvous->Forget(comm->group);  // all have met
    } else {
      comm->error = nccl::kSystemError;
    }
    comm->state = StandInComm::kReady;
  });
  *out = comm.get();
  World& world = TheWorld();
  MutexLock lock(&world.mutex);
  world.comms.emplace(*out, std::move(comm));
  return nccl::kInProgress;
}

Result CommGetAsyncError(Comm comm, Result* error) {
  Use use(comm, "ncclCommGetAsyncError");
  if (!use) return nccl::kInvalidArgument;
  const bool waits = use->state == StandInComm::kForming ||
                     use->turns.fetch_sub(use->turns > 0 ? 1 : 0) > 0 ||
                     (use->state == StandInComm::kFinalized && use->n_under_way > 0);
  *error = use->error != nccl::kSuccess ? use->error.load() : waits ? nccl::kInProgress : nccl::kSuccess;
  return nccl::kSuccess;
}

Result CommFinalize(Comm comm) {
  Use use(comm, "ncclCommFinalize");
  if (!use) return nccl::kInvalidArgument;
  if (use->state != StandInComm::kReady) Misused("finalized twice, or before it was there");
  use->state = StandInComm::kFinalized;
  use->turns = SomeTurns();
  return nccl::kInProgress;
}

Result CommDestroy(Comm comm) {
  Use use(comm, "ncclCommDestroy");
  if (!use) return nccl::kInvalidArgument;
  if (use->state != StandInComm::kFinalized || use->turns > 0 || use->n_under_way > 0) {
    Misused("destroyed before it was finalized");
  }
  Forget(comm);
  return nccl::kSuccess;
}

Result CommAbort(Comm comm) {
  Use use(comm, "ncclCommAbort");
  if (!use) return nccl::kInvalidArgument;
  use->abort->Raise();
  Forget(comm);
  return nccl::kSuccess;
}

const char* GetErrorString(Result result) {
  return result == nccl::kRemoteError   ? "remote process exited"
         : result == nccl::kSystemError ? "system error"
                                        : "error";
}

const char* GetLastError(Comm) { return "the stand-in was told to fail\n"; }

Result GroupStart() {
  ++group_depth;
  return nccl::kSuccess;
}

Result GroupEnd() {
  if (group_depth == 0) {
    Misused("ncclGroupEnd without ncclGroupStart");
    return nccl::kInvalidUsage;
  }
  if (--group_depth > 0) return nccl::kSuccess;
  Result result = nccl::kSuccess;
  for (Operation& operation : std::exchange(grouped, {})) {
    if (Launch(std::move(operation)) == nccl::kInProgress) result = nccl::kInProgress;
  }
  return result;
}

CallOptions Patiently() { return {.timeout = kNcclPatience}; }

Result AllReduce(const void* in, void* out, size_t count, nccl::DataType type, nccl::RedOp op, Comm comm,
                 Stream stream) {
  const ElementType ours = OurType(type);
  const size_t n_bytes = count * ElementBytes(ours);
  return Enqueue(comm, stream, "ncclAllReduce", {{in, n_bytes}, {out, n_bytes}}, [=](Communicator* member) {
    return member->AllReduce(in, out, count, ours, op == nccl::kMax ? ReduceOp::kMax : ReduceOp::kSum,
                             Patiently());
  });
}

Result AllGather(const void* in, void* out, size_t count, nccl::DataType type, Comm comm, Stream stream) {
  const ElementType ours = OurType(type);
  const size_t n_bytes = count * ElementBytes(ours);
  // The least that the output takes; how many members there are is seen when it runs.
  return Enqueue(comm, stream, "ncclAllGather", {{in, n_bytes}, {out, n_bytes}}, [=](Communicator* member) {
    const auto rows = static_cast<size_t>(member->size());
    if (!StandInDevice::Get().CheckMemory(out, n_bytes * rows, "output of ncclAllGather"))
      return absl::UnknownError("");
    return member->AllGather(in, out, count, ours, Patiently());
  });
}

Result Broadcast(const void* in, void* out, size_t count, nccl::DataType type, int root, Comm comm,
                 Stream stream) {
  const ElementType ours = OurType(type);
  const size_t n_bytes = count * ElementBytes(ours);
  if (in != out) Misused("a broadcast out of place, which the stand-in has not");
  return Enqueue(comm, stream, "ncclBroadcast", {{out, n_bytes}}, [=](Communicator* member) {
    return member->Broadcast(out, count, ours, root, Patiently());
  });
}

Result Send(const void* data, size_t count, nccl::DataType type, int peer, Comm comm, Stream stream) {
  const ElementType ours = OurType(type);
  return Enqueue(comm, stream, "ncclSend", {{data, count * ElementBytes(ours)}},
                 [=](Communicator* member) { return member->Send(data, count, ours, peer, Patiently()); });
}

Result Recv(void* data, size_t count, nccl::DataType type, int peer, Comm comm, Stream stream) {
  const ElementType ours = OurType(type);
  return Enqueue(comm, stream, "ncclRecv", {{data, count * ElementBytes(ours)}},
                 [=](Communicator* member) { return member->Recv(data, count, ours, peer, Patiently()); });
}

}  // namespace

nccl::Calls StandInCalls() {
  return {.get_version = GetVersion,
          .get_unique_id = GetUniqueId,
          .comm_init_rank_config = CommInitRankConfig,
          .comm_get_async_error = CommGetAsyncError,
          .comm_finalize = CommFinalize,
          .comm_destroy = CommDestroy,
          .comm_abort = CommAbort,
          .get_error_string = GetErrorString,
          .get_last_error = GetLastError,
          .group_start = GroupStart,
          .group_end = GroupEnd,
          .all_reduce = AllReduce,
          .all_gather = AllGather,
          .broadcast = Broadcast,
          .send = Send,
          .recv = Recv,
          .driver = StandInDevice::Driver()};
}

std::string TakeMisuse(bool all_should_be_gone) {
  World& world = TheWorld();
  size_t n_left = 0;
  {
    MutexLock lock(&world.mutex);
    n_left = world.comms.size();
  }
  if (all_should_be_gone && n_left > 0) Misused(absl::StrCat(n_left, " communicators never destroyed"));
  if (group_depth != 0) Misused("a group was started and not ended");
  return StandInDevice::Get().TakeReports();
}

void FailNext(Result result) { next_failure = result; }
void SetVersion(int version) { version_of_thread = version; }

}  // namespace coterie::comm_testing
