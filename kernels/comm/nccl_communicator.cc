#include "kernels/comm/nccl_communicator.h"

#include <cstring>
#include <vector>

#include "absl/strings/escaping.h"
#include "common/quoted.h"
#include "kernels/comm/member_card.h"
#include "kernels/comm/nccl.h"
#include "kernels/comm/notes.h"
#include "kernels/comm/turns.h"

namespace coterie {
namespace {

// What an end may take beyond a deadline: of a finalize, and of a stream after an abort.
constexpr absl::Duration kNcclEndTime = absl::Seconds(2);

nccl::DataType NcclType(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return nccl::kFloat32;
    case ElementType::kBFloat16:
      return nccl::kBfloat16;
    case ElementType::kFloat16:
      return nccl::kFloat16;
    case ElementType::kInt32:
      return nccl::kInt32;
    case ElementType::kUint8:
      return nccl::kUint8;
  }
  return nccl::kUint8;
}

}  // namespace

Status NcclCommunicator::Init(MonotonicTime deadline) {
  const RendezvousKey key{group(), epoch(), 0, "nccl-id"};
  nccl::UniqueId id;
  if (rank() == 0) {
    if (const nccl::Result result = calls_.get_unique_id(&id); result != nccl::kSuccess) {
      return absl::UnavailableError(
          absl::StrCat("NCCL gives no id: ", Shown(calls_.get_error_string(result))));
    }
    RETURN_IF_ERROR(rendezvous_->Publish(key, absl::BytesToHexString({id.bytes, sizeof(id.bytes)}), deadline,
                                         *options().abort));
  } else {
    StatusOr<std::string> text = rendezvous_->Await(key, deadline, *options().abort);
    if (!text.ok()) {
      return Annotate(text.status(),
                      absl::StrCat("waiting for the id of ", MemberName(0, options().members)));
    }
    const std::string bytes = absl::HexStringToBytes(*text);
    if (bytes.size() != sizeof(id.bytes)) {
      return absl::FailedPreconditionError(absl::StrCat(MemberName(0, options().members), " sent an id of ",
                                                        bytes.size(), " bytes; NCCL's has ",
                                                        sizeof(id.bytes)));
    }
    std::memcpy(id.bytes, bytes.data(), sizeof(id.bytes));
  }
  Step("id");
  nccl::Config config;
  const nccl::Result begun = calls_.comm_init_rank_config(&comm_, size(), id, rank(), &config);
  std::optional<Loss> loss = WaitUntilDone(begun, /*on_device=*/false, options().form_timeout, deadline);
  if (!loss) {
    const int error = calls_.driver.event_create(&event_, kEventDisableTiming);
    if (error != kDriverSuccess) loss = DeviceFailure(error);
  }
  if (!loss) {
    Step("init");
    return absl::OkStatus();
  }
  const Loss blamed = Blame(*loss);
  Leave(blamed);
  return blamed.ToStatus();
}

NcclCommunicator::~NcclCommunicator() {
  if (comm_ != nullptr) {
    LeaveNote(options(), rendezvous_.get(), Ended());
    // Waits for what the others have still to take; an abort ends what does not come to an end.
    const MonotonicTime deadline = MonotonicNow() + kNcclEndTime;
    const std::optional<Loss> loss =
        WaitUntilDone(calls_.comm_finalize(comm_), false, kNcclEndTime, deadline);
    if (loss) {
      calls_.comm_abort(comm_);
    } else {
      calls_.comm_destroy(comm_);
    }
  }
  if (event_ != nullptr) calls_.driver.event_destroy(event_);
}

nccl::Result NcclCommunicator::Enqueue(const Call& call) {
  const nccl::DataType type = NcclType(call.type);
  const nccl::RedOp op = call.op == ReduceOp::kMax ? nccl::kMax : nccl::kSum;
  const nccl::Result started = calls_.group_start();
  if (started != nccl::kSuccess) return started;
  nccl::Result result = nccl::kInvalidUsage;
  switch (call.kind) {
    case CallKind::kAllReduce:
      result = calls_.all_reduce(call.input, call.output, call.count, type, op, comm_, call.stream);
      break;
    case CallKind::kAllGather:
      result = calls_.all_gather(call.input, call.output, call.count, type, comm_, call.stream);
      break;
    case CallKind::kBroadcast:
      result = calls_.broadcast(call.input, call.output, call.count, type, call.peer, comm_, call.stream);
      break;
    case CallKind::kSend:
      result = calls_.send(call.input, call.count, type, call.peer, comm_, call.stream);
      break;
    case CallKind::kRecv:
      result = calls_.recv(call.output, call.count, type, call.peer, comm_, call.stream);
      break;
    case CallKind::kHello:
      break;
  }
  // Ended on every path: an open group would hold every later call back.
  const nccl::Result ended = calls_.group_end();
  return result == nccl::kSuccess || result == nccl::kInProgress ? ended : result;
}

std::optional<Loss> NcclCommunicator::Run(const Call& call) {
  Step("begin");
  recorded_ = false;
  std::optional<Loss> loss = WaitUntilDone(Enqueue(call), /*on_device=*/false, call.timeout, call.deadline);
  if (!loss) {
    Step("enqueued");
    if (const int error = calls_.driver.event_record(event_, call.stream); error == kDriverSuccess) {
      recorded_ = true;
      loss = WaitUntilDone(nccl::kSuccess, /*on_device=*/true, call.timeout, call.deadline);
    } else {
      loss = DeviceFailure(error);
    }
  }
  if (!loss) {
    Step("end");
    return std::nullopt;
  }
  // Whatever failed, something may stand in the stream: Leave waits for it.
  if (!recorded_) recorded_ = calls_.driver.event_record(event_, call.stream) == kDriverSuccess;
  return Blame(*loss);
}

std::string NcclCommunicator::LastWords() const {
  const char* const words = calls_.get_last_error(comm_);
  std::string_view text = words == nullptr ? "" : words;
  while (text.ends_with('\n')) text.remove_suffix(1);
  return text.empty() ? "" : absl::StrCat(" (", Shown(text), ")");
}

Loss NcclCommunicator::DeviceFailure(int error) const {
  return LossFromDevice(error, rank(), options().members);
}

Loss NcclCommunicator::Blame(const Loss& loss) {
  // Leave writes the note where it is not asked who is lost.
  return loss.rank >= 0 ? loss : BlameByNotes(options(), rendezvous_.get(), loss);
}

std::optional<Loss> NcclCommunicator::WaitUntilDone(nccl::Result begun, bool on_device,
                                                    absl::Duration timeout, MonotonicTime deadline) {
  nccl::Result result = begun;
  Turns turns;
  NoteWatch notes;
  for (;;) {
    if (result == nccl::kSuccess && on_device) {
      const int event = calls_.driver.event_query(event_);
      if (event == kDriverSuccess) return std::nullopt;
      if (event != kDriverNotReady) {
        return DeviceFailure(event);
      }
    } else if (result == nccl::kSuccess) {
      return std::nullopt;
    } else if (result != nccl::kInProgress) {
      // Of another member (remote), of the system under it, or of this one: NCCL doesn't say which.
      const bool mine = result == nccl::kInvalidArgument || result == nccl::kInvalidUsage;
      return Loss{mine ? absl::StatusCode::kInvalidArgument : absl::StatusCode::kUnavailable,
                  mine || result == nccl::kUnhandledCudaError ? rank() : -1,
                  absl::StrCat("NCCL says ", Shown(calls_.get_error_string(result)), " on ",
                               MemberName(rank(), options().members), LastWords())};
    }
    if (options().abort->raised()) return LossFromAbort(rank(), options().members);
    if (MonotonicNow() >= deadline) {
      return Loss{absl::StatusCode::kDeadlineExceeded, -1,
                  absl::StrCat("NCCL was not done within ", absl::FormatDuration(timeout))};
    }
    if (std::optional<Loss> told = notes.Look(options(), rendezvous_.get())) return told;
    turns.Wait();
    if (comm_ == nullptr) continue;
    nccl::Result error = nccl::kSuccess;
    const nccl::Result asked = calls_.comm_get_async_error(comm_, &error);
    result = asked == nccl::kSuccess ? error : asked;
  }
}

void NcclCommunicator::Leave(const Loss& why) {
  LeaveNote(options(), rendezvous_.get(), why);
  if (comm_ == nullptr) return;
  calls_.comm_abort(std::exchange(comm_, nullptr));
  if (!recorded_) return;
  // NCCL's kernels leave the stream after an abort; until then they may still touch the buffers.
  const MonotonicTime deadline = MonotonicNow() + kNcclEndTime;
  Turns turns;
  while (calls_.driver.event_query(event_) == kDriverNotReady && MonotonicNow() < deadline) turns.Wait();
}

StatusOr<std::unique_ptr<Communicator>> CreateNcclCommunicator(const nccl::Calls& calls,
                                                               std::shared_ptr<Rendezvous> rendezvous,
                                                               CommunicatorOptions options) {
  RETURN_IF_ERROR(PrepareOptions(&options));
  const MonotonicTime deadline = MonotonicNow() + options.form_timeout;
  int version = 0;
  if (calls.get_version(&version) != nccl::kSuccess)
    return absl::UnavailableError("NCCL does not say its version");
  const std::string details = absl::StrCat(version);
  const std::string where = FormingGroup(options);
  if (options.on_step) options.on_step("come");
  ASSIGN_OR_RETURN(const std::vector<MemberCard> cards,
                   MeetMembers(options, "nccl", details, rendezvous.get(), deadline));
  if (options.on_step) options.on_step("met");
  for (const MemberCard& card : cards) {
    if (card.details == details) continue;
    return absl::FailedPreconditionError(absl::StrCat(where, ": ", MemberName(card.rank, options.members),
                                                      " has NCCL ", Shown(card.details, 16), ", this member ",
                                                      details, "; install one version on both"));
  }
  auto communicator = std::make_unique<NcclCommunicator>(calls, std::move(rendezvous), std::move(options));
  if (Status formed = communicator->Init(deadline); !formed.ok()) return Annotate(formed, where);
  return std::unique_ptr<Communicator>(std::move(communicator));
}

}  // namespace coterie
