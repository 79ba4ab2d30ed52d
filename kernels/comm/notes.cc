#include "kernels/comm/notes.h"

#include <vector>

namespace coterie {
namespace {

constexpr char kNoteTopic[] = "farewell";

}  // namespace

void LeaveNote(const CommunicatorOptions& options, Rendezvous* rendezvous, const Loss& why) {
  // AlreadyExists for a second one; and where the rendezvous cannot be reached, others wait no longer than
  // they would anyway.
  (void)rendezvous->Publish({options.group, options.epoch, options.rank, kNoteTopic}, why.Encode());
}

Loss BlameByNotes(const CommunicatorOptions& options, Rendezvous* rendezvous, Loss loss) {
  LeaveNote(options, rendezvous, loss);
  if (loss.rank == options.rank) return loss;
  const MonotonicTime deadline = MonotonicNow() + kNoteTime;
  std::vector<int> silent;
  for (int other = 0; other < options.size(); ++other) {
    if (other == options.rank || (loss.rank >= 0 && other != loss.rank)) continue;
    StatusOr<std::string> note =
        rendezvous->Await({options.group, options.epoch, other, kNoteTopic}, deadline, *options.abort);
    if (!note.ok()) {
      silent.push_back(other);
      continue;
    }
    const Loss farewell = Loss::Parse(*note);
    if (farewell.rank < 0) continue;  // it knows no more than we do
    Loss blamed = LossFromFarewell(farewell, other, options.rank, options.members);
    blamed.reason = absl::StrCat(loss.reason, ": ", blamed.reason);
    return blamed;
  }
  if (silent.empty() || loss.rank >= 0) return loss;
  loss.rank = silent.front();
  std::string names;
  for (int other : silent) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", MemberName(other, options.members));
  }
  absl::StrAppend(&loss.reason, ": ", names, " gave no sign of life");
  return loss;
}

}  // namespace coterie
