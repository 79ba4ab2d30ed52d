#ifndef COTERIE_WORKER_GANG_GANG_MEMBER_H_
#define COTERIE_WORKER_GANG_GANG_MEMBER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/mutex.h"
#include "common/sequence.h"
#include "worker/engine/engine.h"
#include "worker/engine/peer_traffic.h"
#include "worker/gang/gang_draw.h"
#include "worker/gang/gang_meeting.h"
#include "worker/gang/gang_talk.h"
#include "worker/gang/told_rows.h"

namespace coterie {

struct GangOptions {
  int max_gangs = 32;  // at a time; each takes a thread and, with its leader, a few rows of logits
  absl::Duration form_timeout = absl::Seconds(3);
  // Of a call to another worker: who is silent for longer is lost.
  absl::Duration call_timeout = absl::Milliseconds(1500);
  // The longest that a worker says nothing while its step takes long; well below call_timeout.
  absl::Duration round = absl::Milliseconds(300);
};

// One sequence of a gang on this worker: a thread that carries the rows of its steps to the leader, and the
// drawn tokens back to the engine, which never waits for the others. The thread ends with the sequence, or
// ends it: with UNAVAILABLE naming the lost worker where this one leads, and with ABORTED where it follows,
// since then the leader says why.
class GangMember {
 public:
  // Borrows all but the sequence, of which it takes what it needs.
  GangMember(const GangOptions& options, Engine* engine, GangMeeting* meeting, PeerTraffic* traffic,
             const Sequence& sequence);
  ~GangMember();  // gives the gang up, where it goes on

  // What the engine said of the sequence. Any thread.
  void OnLogits(uint32_t position);
  void OnFinished();
  bool done() const;  // the thread has nothing left to do

 private:
  enum class Local { kReady, kNotYet, kFinished };

  void Run();
  Status Talk(Communicator* communicator);
  Status Lead(GangTalk* talk);
  Status Follow(GangTalk* talk);
  // Asks every follower; true when all rows are there.
  StatusOr<bool> Collect(GangTalk* talk, Local local);
  Status TakeRowsOf(GangTalk* talk, size_t rank);
  Status DrawAndTell(GangTalk* talk);
  // Waits for at most a round.
  Local WaitForLogits();
  // The engine's rows, as they travel.
  void PackLocal();
  Status Unpack(size_t rank, std::span<const std::byte> rows);
  void GiveToken(int32_t token, std::span<const TokenLogprob> logprobs);

  const GangOptions options_;
  Engine* const engine_;
  GangMeeting* const meeting_;
  PeerTraffic* const traffic_;
  const uint64_t engine_id_;
  const GangPlan plan_;
  const int max_sequence_tokens_;
  const size_t vocab_size_;
  const std::shared_ptr<const std::vector<float>>
      logits_;             // [this worker's members, vocab_size], the engine's
  SequenceRequest whole_;  // of the leader, until its thread has begun
  const std::shared_ptr<AbortFlag> abort_ = std::make_shared<AbortFlag>();

  // The thread's own.
  ToldRows wire_;
  std::optional<GangDraw> draw_;
  std::vector<std::byte> packed_;  // of this worker
  std::vector<std::byte> taken_;   // of another one
  std::vector<float> rows_;        // [members, vocab_size], of the leader
  std::vector<uint32_t> told_;     // [MaskWords]
  std::vector<bool> has_;          // [workers], of the leader: their rows for this token
  uint32_t position_ = 0;          // of the next token, in the answer

  mutable Mutex mutex_;
  CondVar changed_;
  std::optional<uint32_t> ready_ ABSL_GUARDED_BY(mutex_);  // the position whose logits are there
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_GANG_GANG_MEMBER_H_
