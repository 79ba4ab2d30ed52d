#include "kernels/comm/communicator.h"

#include <array>

#include "common/check.h"
#include "common/quoted.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {
namespace {

Status CheckTimeout(absl::Duration timeout, std::string_view what) {
  if (timeout > absl::ZeroDuration() && timeout <= kMaxCommTimeout) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(what), " is ", absl::FormatDuration(timeout),
                                                 "; it must be above 0 and at most ",
                                                 absl::FormatDuration(kMaxCommTimeout)));
}

}  // namespace

size_t ElementBytes(ElementType type) {
  constexpr std::array<size_t, 5> kBytes = {4, 2, 2, 4, 1};
  return kBytes[static_cast<size_t>(type)];
}

std::string_view ElementName(ElementType type) {
  constexpr std::array<std::string_view, 5> kNames = {"float32", "bfloat16", "float16", "int32", "uint8"};
  return static_cast<size_t>(type) < kNames.size() ? kNames[static_cast<size_t>(type)] : "unknown type";
}

std::string_view CallName(int call_kind) {
  constexpr std::array<std::string_view, 6> kNames = {"Hello",     "AllReduce", "AllGather",
                                                      "Broadcast", "Send",      "Recv"};
  return call_kind >= 0 && static_cast<size_t>(call_kind) < kNames.size()
             ? kNames[static_cast<size_t>(call_kind)]
             : "unknown call";
}

Status PrepareOptions(CommunicatorOptions* options) {
  if (options->group.empty() || options->group.size() > Rendezvous::kMaxGroupBytes) {
    return absl::InvalidArgumentError(absl::StrCat("group has a name of ", options->group.size(),
                                                   " bytes; it must have 1 to ", Rendezvous::kMaxGroupBytes));
  }
  if (options->members.empty() || options->members.size() > kMaxMembers) {
    return absl::InvalidArgumentError(absl::StrCat("group ", Quoted(options->group), " has ",
                                                   options->members.size(), " members; it must have 1 to ",
                                                   kMaxMembers));
  }
  if (options->rank < 0 || options->rank >= options->size()) {
    return absl::InvalidArgumentError(absl::StrCat("rank is ", options->rank, "; group ",
                                                   Quoted(options->group), " has ranks 0 to ",
                                                   options->size() - 1));
  }
  RETURN_IF_ERROR(CheckTimeout(options->form_timeout, "form_timeout"));
  if (options->abort == nullptr) options->abort = std::make_shared<AbortFlag>();
  return absl::OkStatus();
}

Loss Communicator::Ended() const {
  return {Loss::kEnded, rank(), absl::StrCat(MemberName(rank(), options_.members), " has ended")};
}

Status Communicator::AllReduce(const void* input, void* output, size_t count, ElementType type, ReduceOp op,
                               const CallOptions& options) {
  return Do({.kind = CallKind::kAllReduce,
             .input = input,
             .output = output,
             .count = count,
             .type = type,
             .op = op},
            options);
}

Status Communicator::AllGather(const void* input, void* output, size_t count, ElementType type,
                               const CallOptions& options) {
  return Do({.kind = CallKind::kAllGather, .input = input, .output = output, .count = count, .type = type},
            options);
}

Status Communicator::Broadcast(void* data, size_t count, ElementType type, int root,
                               const CallOptions& options) {
  return Do({.kind = CallKind::kBroadcast,
             .input = data,
             .output = data,
             .count = count,
             .type = type,
             .peer = root},
            options);
}

Status Communicator::Send(const void* data, size_t count, ElementType type, int to,
                          const CallOptions& options) {
  return Do({.kind = CallKind::kSend, .input = data, .count = count, .type = type, .peer = to}, options);
}

Status Communicator::Recv(void* data, size_t count, ElementType type, int from, const CallOptions& options) {
  return Do({.kind = CallKind::kRecv, .output = data, .count = count, .type = type, .peer = from}, options);
}

Status Communicator::Do(Call call, const CallOptions& options) {
  const std::string_view name = CallName(static_cast<int>(call.kind));
  COTERIE_CHECK(!busy_.exchange(true)) << name << " while another call runs on this communicator";
  struct Free {
    std::atomic<bool>* busy;
    ~Free() { busy->store(false); }
  } free{&busy_};
  const std::string where = absl::StrCat(ToAbsl(name), " of group ", Quoted(group()), ", epoch ", epoch());
  if (finished()) {
    return absl::FailedPreconditionError(absl::StrCat(where, ": the group is finished (", first_reason_,
                                                      "); form it again under a new epoch"));
  }
  if (Status checked = CheckCall(call, options); !checked.ok()) return Annotate(checked, where);
  call.memory = options.memory;
  call.stream = options.stream;
  call.timeout = options.timeout;
  call.deadline = MonotonicNow() + options.timeout;
  const std::optional<Loss> loss =
      options_.abort->raised() ? LossFromAbort(rank(), options_.members) : Run(call);
  if (!loss) return absl::OkStatus();
  Leave(*loss);
  first_reason_ = loss->reason;
  return Annotate(loss->ToStatus(), where);
}

Status Communicator::CheckCall(const Call& call, const CallOptions& options) const {
  RETURN_IF_ERROR(CheckTimeout(options.timeout, "timeout"));
  const bool point_to_point = call.kind == CallKind::kSend || call.kind == CallKind::kRecv;
  if (call.peer < 0 || call.peer >= size() || (point_to_point && call.peer == rank())) {
    return absl::InvalidArgumentError(
        absl::StrCat("the other member is ", call.peer, "; this is member ", rank(), " of ", size()));
  }
  if (call.count > kMaxCommBytes / ElementBytes(call.type) / static_cast<size_t>(size())) {
    return absl::InvalidArgumentError(absl::StrCat(call.count, " values of ", ToAbsl(ElementName(call.type)),
                                                   " from each of ", size(), " members are more than ",
                                                   kMaxCommBytes, " bytes; split the call"));
  }
  const bool needs_output = call.kind != CallKind::kSend;
  const bool needs_input = call.kind != CallKind::kRecv;
  if (call.count > 0 &&
      ((needs_input && call.input == nullptr) || (needs_output && call.output == nullptr))) {
    return absl::InvalidArgumentError(absl::StrCat("no buffer for ", call.count, " values"));
  }
  const CommCapabilities can = capabilities();
  const bool device = options.memory == MemoryKind::kDevice;
  if (device ? can.device_memory : can.host_memory) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(ToAbsl(can.backend), " works on ", device ? "host" : "device",
                                               " memory only; copy the buffer there first"));
}

}  // namespace coterie
