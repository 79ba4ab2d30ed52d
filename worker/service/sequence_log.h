#ifndef COTERIE_WORKER_SERVICE_SEQUENCE_LOG_H_
#define COTERIE_WORKER_SERVICE_SEQUENCE_LOG_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/sequence.h"
#include "common/status.h"
#include "coterie/v1/worker.pb.h"
#include "worker/engine/output_batch.h"

namespace coterie::worker {

// What one sequence has said so far and how much of it has been sent. The answer is kept until the sequence
// is dropped, so that a gateway that lost its connection can be sent the rest from any position; of the
// prompt's log-probabilities, which cannot be sent again (Rewind), nothing is kept once it is sent. Bounded
// by the sequence's own length. Not thread-safe.
class SequenceLog {
 public:
  // Answer positions count from `n_resumed`: those tokens were generated elsewhere.
  SequenceLog(uint64_t sequence_id, uint64_t engine_id, uint32_t n_resumed, bool scores_prompt,
              MonotonicTime submitted)
      : sequence_id_(sequence_id),
        engine_id_(engine_id),
        begin_(n_resumed),
        scores_prompt_(scores_prompt),
        submitted_(submitted) {}

  void Add(const OutputEvent& event, std::span<const TokenLogprob> scored, MonotonicTime now);

  // True when something has not been sent yet.
  bool pending() const;
  // Puts it into `out`, at most about `*budget` tokens and log-probabilities, which it reduces.
  void Take(v1::SequenceOutput* out, size_t* budget);
  // The reader has the answer up to `next_position` and wants the rest. False when that cannot be: it lies
  // outside of what was said, or log-probabilities of the prompt may have been lost (they carry no
  // positions).
  bool Rewind(uint32_t next_position);

  uint64_t sequence_id() const { return sequence_id_; }
  uint64_t engine_id() const { return engine_id_; }
  uint32_t end() const { return begin_ + static_cast<uint32_t>(tokens_.size()); }
  bool started() const { return started_; }
  FinishReason finish() const { return finish_; }
  bool finished() const { return finish_ != FinishReason::kNone; }
  MonotonicTime submitted() const { return submitted_; }
  MonotonicTime finished_at() const { return finished_at_; }
  size_t bytes() const;  // of memory, about

  // For the session's bookkeeping.
  bool queued = false;     // in the list of those with something to send
  bool suspended = false;  // the connection was replaced; the new one has not said what it has
  std::vector<std::string> experts;

 private:
  const uint64_t sequence_id_;
  const uint64_t engine_id_;
  const uint32_t begin_;
  const bool scores_prompt_;
  const MonotonicTime submitted_;

  std::vector<uint32_t> tokens_;               // from position begin_ on
  std::vector<TokenLogprob> logprobs_;         // [tokens, stride_], when asked for
  std::vector<TokenLogprob> prompt_logprobs_;  // [positions, prompt_stride_], not all sent yet
  size_t stride_ = 0;
  size_t prompt_stride_ = 0;
  size_t n_sent_ = 0;          // of tokens_
  size_t n_prompt_sent_ = 0;   // entries of prompt_logprobs_
  bool prompt_begun_ = false;  // some of the prompt's were sent
  bool started_ = false;       // the first event came
  uint32_t cached_prompt_tokens_ = 0;
  uint32_t queued_ms_ = 0;
  FinishReason finish_ = FinishReason::kNone;
  bool finish_sent_ = false;
  int32_t stop_token_ = -1;
  Status error_;
  MonotonicTime finished_at_ = MonotonicTime::InfiniteFuture();
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_SEQUENCE_LOG_H_
