#ifndef COTERIE_KERNELS_COMM_NOTES_H_
#define COTERIE_KERNELS_COMM_NOTES_H_

#include <optional>

#include "kernels/comm/communicator.h"
#include "kernels/comm/rendezvous.h"

namespace coterie {

// Farewells by way of the rendezvous, where there is no connection that would carry them: while a group
// forms, and from NCCL, which does not say which member it misses. A member's first note stands.
void LeaveNote(const CommunicatorOptions& options, Rendezvous* rendezvous, const Loss& why);

// How long others' notes are waited for: members that wait for one another give up at about the same time.
inline constexpr absl::Duration kNoteTime = absl::Seconds(1);

// Leaves a note, and makes of `loss` and the others' notes who is lost: of all others where loss.rank is not
// known, else what that member's note says. A member without a note is the lost one.
Loss BlameByNotes(const CommunicatorOptions& options, Rendezvous* rendezvous, Loss loss);

// Looks for others' notes while a call waits, so that a member that has said why it left is known then and
// not at the deadline. Not before the call has waited for a while, and seldom: each look asks for every
// other's note. None where nobody has left but at the end of its work; rank -1 where nobody knows whom it
// misses.
class NoteWatch {
 public:
  std::optional<Loss> Look(const CommunicatorOptions& options, Rendezvous* rendezvous);

 private:
  static constexpr absl::Duration kFirstLook = absl::Milliseconds(100), kNextLook = absl::Milliseconds(250);
  MonotonicTime next_look_ = MonotonicNow() + kFirstLook;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_NOTES_H_
