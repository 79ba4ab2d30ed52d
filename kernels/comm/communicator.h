#ifndef COTERIE_KERNELS_COMM_COMMUNICATOR_H_
#define COTERIE_KERNELS_COMM_COMMUNICATOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/status.h"
#include "kernels/comm/abort_flag.h"
#include "kernels/comm/driver_calls.h"
#include "kernels/comm/loss.h"

namespace coterie {

enum class ElementType : uint8_t { kFloat32, kBFloat16, kFloat16, kInt32, kUint8 };
enum class ReduceOp : uint8_t { kSum, kMax };
enum class MemoryKind : uint8_t { kHost, kDevice };

size_t ElementBytes(ElementType type);
std::string_view ElementName(ElementType type);

// Every wait is bounded: no longer time-out is taken.
inline constexpr absl::Duration kMaxCommTimeout = absl::Hours(1);
// Of one call, all members' parts together.
inline constexpr size_t kMaxCommBytes = size_t{1} << 30;
inline constexpr int kMaxMembers = 64;

struct CommunicatorOptions {
  std::string group;  // which gang
  // Counts how often the group has formed: after a loss it forms again under a larger one, and whatever comes
  // from a smaller one is refused.
  uint64_t epoch = 0;
  int rank = 0;
  std::vector<std::string>
      members;  // names in the order of ranks, for messages; as many as there are members
  absl::Duration form_timeout = absl::Seconds(10);
  // Ends the waits of this member, from the formation on. None: only Abort() does.
  std::shared_ptr<AbortFlag> abort;
  // With it, members that reach each other over the host (in-process, Gloo) take device memory as well: it
  // travels through pinned memory of the host (LoadDriver).
  std::shared_ptr<const DriverCalls> driver;
  // Called at each step of the formation and of a call, on the thread that called. For tests, which lose a
  // member here.
  std::function<void(std::string_view step)> on_step;

  int size() const { return static_cast<int>(members.size()); }
};

struct CallOptions {
  absl::Duration timeout = absl::Seconds(10);
  MemoryKind memory = MemoryKind::kHost;
  // With device memory: the stream behind whose work the call is ordered (a cudaStream_t). The call still
  // returns when its result is there.
  void* stream = nullptr;
};

// What a backend can do.
struct CommCapabilities {
  std::string_view backend;  // "in-process", "gloo", "nccl"
  bool host_memory = false;
  bool device_memory = false;
  // Sums are taken over ascending ranks in float32 (integers wrap), rounded to the type once: equal bits on
  // every member, in every run and on every backend that says so. Otherwise the order is the backend's own.
  bool ascending_order = false;
  // Members that call different things, or with different sizes, are told so by name. Otherwise the deadline
  // ends such calls.
  bool checks_calls = false;
};

// One member of a group of processes (or threads, or devices) that call the same things in the same order.
//
// A call returns when this member's part is done, on OK with the result in place. Every call ends by its
// time-out plus a small bound, whatever happens to the others. A call that fails through a member, the
// deadline or Abort() finishes the communicator: buffers hold anything, no one touches them any more, and
// later calls return FailedPrecondition with the first reason. Form the group again under a larger epoch.
//
//   InvalidArgument     this call is wrong (nothing was sent), or a member's does not fit it (named)
//   Unimplemented       not for this memory
//   DeadlineExceeded    the named members did not answer in time
//   Unavailable         the named member is gone, or of another group or epoch
//   Cancelled           Abort()
//
// One call at a time; only Abort() and the plain getters may come from other threads. Input and output may be
// the same buffer where they have the same size, and do not overlap otherwise.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return options_.rank; }
  int size() const { return options_.size(); }
  uint64_t epoch() const { return options_.epoch; }
  const std::string& group() const { return options_.group; }
  virtual CommCapabilities capabilities() const = 0;

  // output[i] = the sum or maximum of all members' input[i]. A maximum is NaN where any is (on NCCL: where
  // all are).
  Status AllReduce(const void* input, void* output, size_t count, ElementType type, ReduceOp op,
                   const CallOptions& options);
  // output [size, count] gets every member's input [count]. Input may be this member's row of output.
  Status AllGather(const void* input, void* output, size_t count, ElementType type,
                   const CallOptions& options);
  // data [count] of `root` comes to all.
  Status Broadcast(void* data, size_t count, ElementType type, int root, const CallOptions& options);
  // Between two members; both give the same count and type. Send may wait for the other's Recv.
  Status Send(const void* data, size_t count, ElementType type, int to, const CallOptions& options);
  Status Recv(void* data, size_t count, ElementType type, int from, const CallOptions& options);

  // Ends this member's call, the running one or the next, with Cancelled. The others learn of it when the
  // call has ended or this communicator is destroyed.
  void Abort() { options_.abort->Raise(); }

 protected:
  enum class CallKind : uint8_t { kHello, kAllReduce, kAllGather, kBroadcast, kSend, kRecv };
  struct Call {
    CallKind kind;
    const void* input = nullptr;
    void* output = nullptr;
    size_t count = 0;
    ElementType type = ElementType::kUint8;
    ReduceOp op = ReduceOp::kSum;
    int peer = 0;  // root, receiver or sender
    MemoryKind memory = MemoryKind::kHost;
    void* stream = nullptr;
    absl::Duration timeout;
    MonotonicTime deadline;

    size_t bytes() const { return count * ElementBytes(type); }
  };

  // `options` have been validated and have an abort flag (PrepareOptions).
  explicit Communicator(CommunicatorOptions options) : options_(std::move(options)) {}

  const CommunicatorOptions& options() const { return options_; }
  bool finished() const { return !first_reason_.empty(); }
  void Step(std::string_view step) const {
    if (options_.on_step) options_.on_step(step);
  }

  // Does the call; nothing when it is done.
  virtual std::optional<Loss> Run(const Call& call) = 0;
  // Called once, after a loss: tells the others why, and lets go of every buffer. Destructors of backends do
  // the same with Ended() where there was no loss.
  virtual void Leave(const Loss& why) = 0;
  Loss Ended() const;

 private:
  Status Do(Call call, const CallOptions& options);
  Status CheckCall(const Call& call, const CallOptions& options) const;

  CommunicatorOptions options_;
  std::atomic<bool> busy_ = false;
  std::string first_reason_;  // why it is finished
};

std::string_view CallName(int call_kind);

// InvalidArgument naming the field; fills in the abort flag.
Status PrepareOptions(CommunicatorOptions* options);

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_COMMUNICATOR_H_
