#ifndef COTERIE_WORKER_GANG_GANG_TALK_H_
#define COTERIE_WORKER_GANG_GANG_TALK_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/time/time.h"
#include "common/status.h"
#include "kernels/comm/communicator.h"
#include "worker/engine/peer_traffic.h"

namespace coterie {

// What the workers of a gang say to each other, in rounds. In each, every follower tells the leader whether
// it has the rows for the answer's next token, once with the rows themselves; then the leader tells every
// follower the token, or that it is not drawn yet. Nobody is silent for longer than a round, however long a
// step takes, so who is silent for longer than a call's time-out is lost.
struct GangWord {
  enum class Kind : uint32_t {
    kVersion = 1,  // of what follows; see kGangVersion
    kRows,         // follower: the rows follow
    kSent,         // follower: told before
    kNotYet,       // follower: the step is not done; leader: somebody's rows are missing
    kToken,        // leader
  };
  Kind kind = Kind::kNotYet;
  uint32_t position = 0;  // in the answer; of kVersion: the version
  int32_t token = 0;      // of kToken; kNotFinite: a logit was no finite number
};

inline constexpr uint32_t kGangVersion = 1;

class GangTalk {
 public:
  // Both are borrowed. Errors of calls name the worker they came through (LostWorker).
  GangTalk(Communicator* communicator, absl::Duration timeout, PeerTraffic* traffic)
      : communicator_(communicator), timeout_(timeout), traffic_(traffic) {}

  Status Say(int to, const GangWord& word);
  StatusOr<GangWord> Hear(int from);
  Status SendRows(int to, std::span<const std::byte> rows);
  Status TakeRows(int from, std::span<std::byte> rows);
  // Everybody says its version first.
  Status Greet();

 private:
  Status Send(int to, std::span<const std::byte> bytes);
  Status Recv(int from, std::span<std::byte> bytes);

  Communicator* const communicator_;
  const absl::Duration timeout_;
  PeerTraffic* const traffic_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_GANG_GANG_TALK_H_
