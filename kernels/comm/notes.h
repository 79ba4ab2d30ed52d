#ifndef COTERIE_KERNELS_COMM_NOTES_H_
#define COTERIE_KERNELS_COMM_NOTES_H_

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

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_NOTES_H_
