#include "worker/gang/gang_talk.h"

namespace coterie {

Status GangTalk::Send(int to, std::span<const std::byte> bytes) {
  RETURN_IF_ERROR(
      communicator_->Send(bytes.data(), bytes.size(), ElementType::kUint8, to, {.timeout = timeout_}));
  traffic_->AddSent(bytes.size());
  return absl::OkStatus();
}

Status GangTalk::Recv(int from, std::span<std::byte> bytes) {
  return communicator_->Recv(bytes.data(), bytes.size(), ElementType::kUint8, from, {.timeout = timeout_});
}

Status GangTalk::Say(int to, const GangWord& word) { return Send(to, std::as_bytes(std::span(&word, 1))); }

StatusOr<GangWord> GangTalk::Hear(int from) {
  GangWord word;
  RETURN_IF_ERROR(Recv(from, std::as_writable_bytes(std::span(&word, 1))));
  return word;
}

Status GangTalk::SendRows(int to, std::span<const std::byte> rows) { return Send(to, rows); }

Status GangTalk::TakeRows(int from, std::span<std::byte> rows) { return Recv(from, rows); }

Status GangTalk::Greet() {
  const GangWord mine{GangWord::Kind::kVersion, kGangVersion};
  const bool leads = communicator_->rank() == 0;
  for (int rank = leads ? 1 : 0; rank < (leads ? communicator_->size() : 1); ++rank) {
    if (!leads) RETURN_IF_ERROR(Say(rank, mine));
    ASSIGN_OR_RETURN(const GangWord theirs, Hear(rank));
    if (leads) RETURN_IF_ERROR(Say(rank, mine));
    if (theirs.kind != GangWord::Kind::kVersion || theirs.position != kGangVersion) {
      return Loss{absl::StatusCode::kFailedPrecondition, rank,
                  absl::StrCat("member ", rank, " of the gang speaks version ", theirs.position,
                               " of its rounds, this worker version ", kGangVersion)}
          .ToStatus();
    }
  }
  return absl::OkStatus();
}

}  // namespace coterie
