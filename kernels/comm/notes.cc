#include "kernels/comm/notes.h"

#include <algorithm>
#include <vector>

namespace coterie {
namespace {

constexpr char kNoteTopic[] = "farewell";

RendezvousKey NoteOf(const CommunicatorOptions& options, int rank) {
  return {options.group, options.epoch, rank, kNoteTopic};
}

}  // namespace

void LeaveNote(const CommunicatorOptions& options, Rendezvous* rendezvous, const Loss& why) {
  // AlreadyExists for a second one; and where the rendezvous cannot be reached, others wait no longer than
  // they would anyway. Not with the member's own flag: whoever aborts says so.
  (void)rendezvous->Publish(NoteOf(options, options.rank), why.Encode(), MonotonicNow() + kNoteTime,
                            AbortFlag());
}

Loss BlameByNotes(const CommunicatorOptions& options, Rendezvous* rendezvous, Loss loss) {
  LeaveNote(options, rendezvous, loss);
  if (loss.rank == options.rank) return loss;
  const MonotonicTime deadline = MonotonicNow() + kNoteTime;
  std::vector<int> silent;
  for (int other = 0; other < options.size(); ++other) {
    if (other == options.rank || (loss.rank >= 0 && other != loss.rank)) continue;
    StatusOr<std::string> note = rendezvous->Await(NoteOf(options, other), deadline, *options.abort);
    if (!note.ok() && !absl::IsDeadlineExceeded(note.status()) && !absl::IsCancelled(note.status())) {
      // Without the rendezvous nobody is known to be silent. Who serves it may be the lost one.
      absl::StrAppend(&loss.reason, ", and ", note.status().message());
      return loss;
    }
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

std::optional<Loss> NoteWatch::Look(const CommunicatorOptions& options, Rendezvous* rendezvous) {
  const MonotonicTime begin = MonotonicNow();
  if (begin < next_look_) return std::nullopt;
  std::optional<Loss> unexplained;
  for (int other = 0; other < options.size(); ++other) {
    if (other == options.rank) continue;
    StatusOr<std::string> note = rendezvous->Await(NoteOf(options, other), begin, *options.abort);
    if (!note.ok()) {
      if (absl::IsDeadlineExceeded(note.status())) continue;
      next_look_ = MonotonicTime::InfiniteFuture();  // of no use in this call: its deadline ends it
      return std::nullopt;
    }
    const Loss farewell = Loss::Parse(*note);
    // Done with the group before this member is: what it owes is still on its way.
    if (farewell.code == Loss::kEnded && farewell.rank == other) continue;
    if (farewell.rank >= 0) return LossFromFarewell(farewell, other, options.rank, options.members);
    // It has noticed, and does not know whom it misses: the others' notes will say.
    unexplained =
        Loss{absl::StatusCode::kUnavailable, -1,
             absl::StrCat(MemberName(other, options.members), " left the group: ", farewell.reason)};
  }
  if (unexplained) return unexplained;
  const MonotonicTime end = MonotonicNow();
  next_look_ = end + std::max(kNextLook, 10 * (end - begin));
  return std::nullopt;
}

}  // namespace coterie
