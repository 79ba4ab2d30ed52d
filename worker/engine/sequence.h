#ifndef COTERIE_WORKER_ENGINE_SEQUENCE_H_
#define COTERIE_WORKER_ENGINE_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/clock.h"
#include "common/digest.h"
#include "common/prefix_key.h"
#include "common/sequence.h"
#include "common/status.h"
#include "worker/engine/adapter_budget.h"

namespace coterie {

struct AnswerMasks;
struct Share;
struct TurnGroup;

enum class SequenceState : uint8_t {
  kWaiting,   // for a seat, blocks or its adapters; may still hold blocks after a pause
  kRunning,   // in steps; adapters pinned, blocks held
  kPaused,    // without credit; keeps its blocks until somebody needs them
  kFinished,  // told to have ended; what it holds is let go with its last step in flight
};

// What a sequence has once for each of its rows in a step: one, or one for each member of a mixture. The rows
// hold the same tokens and go through the steps together, so what is said of positions and of the number of
// blocks is said of all of them.
struct SequenceRow {
  int n_adapters = 0;           // the row's share of Sequence::adapters, in order
  float mix_weight = 0;         // 0: the only row, which is not mixed
  int seat = -1;                // while it runs, and until its last step was collected
  int n_table_blocks = 0;       // leading `blocks` that its seat's row of the block table has
  std::vector<int32_t> blocks;  // in order of position
  PrefixHash root;
  std::vector<PrefixHash> keys;  // of the leading whole blocks of the tokens, as far as computed
};

// When what happened to a sequence, for its trace. What did not: the infinite future.
struct SequenceTimes {
  MonotonicTime load_began = MonotonicTime::InfiniteFuture();  // it found its adapters still loading
  MonotonicTime load_ended = MonotonicTime::InfiniteFuture();
  MonotonicTime started = MonotonicTime::InfiniteFuture();  // its prompt
  MonotonicTime first_token = MonotonicTime::InfiniteFuture();
  MonotonicTime finished = MonotonicTime::InfiniteFuture();
};

// One sequence's whole state. Made (and all its memory reserved) on the submitter's thread, then owned by the
// engine's thread, freed by the consumer of outputs.
struct Sequence {
  SequenceRequest request;  // prompt_ids and resume_ids moved into `tokens`
  SequenceState state = SequenceState::kWaiting;

  std::vector<int32_t> tokens;  // prompt, resumed and generated; capacity for all that may come
  int n_prompt = 0;
  int max_total = 0;  // tokens.size() at which it ends by length

  // A step in flight was launched and not collected. What it chooses is known when it is collected, but the
  // next step may be planned before: then a token's position is known and its id is not.
  int n_computed = 0;         // leading tokens whose KV stands in the blocks: of collected steps
  int n_launched = 0;         // with those of steps in flight; never fewer
  int n_choosing = 0;         // tokens behind `tokens` that steps in flight choose
  int n_in_flight = 0;        // steps in flight that it is part of
  int32_t row_in_flight = 0;  // of the step launched last: the row that chooses for it
  bool counts_stale = true;   // the token counts at its first row's seat are not its own yet
  bool uploaded = false;      // its adapters: it has its seats while they are brought to their slots

  // Of a gang: the logits of the rows behind the last token [rows, vocab_size], from the kLogits event until
  // the token comes that was drawn from all members' (Engine::PutToken). Whoever draws it holds them too.
  std::shared_ptr<std::vector<float>> gang_logits;
  bool awaits_token = false;
  // Which tokens its constraint allows next; null: it has none. Asked for with each token, made beside the
  // steps.
  std::shared_ptr<AnswerMasks> masks;
  // The next token's mask has a step's time to be ready: the step that wants it may be launched before.
  bool mask_may_be_late = false;

  std::vector<SequenceRow> rows = std::vector<SequenceRow>(1);  // at least one
  int n_cached_blocks = 0;  // leading blocks of each row that stand in the prefix cache

  std::vector<AdapterEntry*>
      adapters;        // references held while the sequence lives; parallel to request.adapters
  AdapterClaim claim;  // while it waits
  uint32_t credit = 0;
  // Order among sequences, smaller first: arrival in microseconds, minus the head start of its priority.
  // Constant, so everything that waits ages against newcomers.
  int64_t rank = 0;
  MonotonicTime arrival;
  MonotonicTime blocked_since = MonotonicTime::InfiniteFuture();
  Share* tenant_share = nullptr;  // while it waits or runs; see FairShares
  Share* expert_share = nullptr;
  // Its place among those that wait; TurnQueue's.
  TurnGroup* turn_group = nullptr;
  Sequence* previous_turn = nullptr;
  Sequence* next_turn = nullptr;
  uint64_t turn_from = 0;  // the first step that may start it
  int n_charged = 0;       // leading tokens whose computation was charged to its shares
  bool started = false;    // its prompt has begun, or it ended before: the first event was or is being sent
  bool reported = false;   // the first event was sent
  bool waited_for_adapter = false;
  uint32_t cached_prompt_tokens = 0;
  uint32_t queued_ms = 0;
  SequenceTimes times;
  FinishReason finish = FinishReason::kNone;
  Status error;                 // with FinishReason::kError
  int next_prompt_logprob = 0;  // next prompt position to launch for scoring; n_prompt when there is none

  int n_rows() const { return static_cast<int>(rows.size()); }
  int n_blocks() const { return static_cast<int>(rows.front().blocks.size()); }     // of each row
  int n_tokens() const { return static_cast<int>(tokens.size()); }                  // whose ids are known
  int n_positions() const { return static_cast<int>(tokens.size()) + n_choosing; }  // that are taken
  uint32_t answer_position() const { return static_cast<uint32_t>(n_tokens() - n_prompt); }
  std::span<const int32_t> prompt() const { return std::span(tokens).first(n_prompt); }
  std::span<const int32_t> answer() const { return std::span(tokens).subspan(n_prompt); }
  bool before(const Sequence& other) const {
    return rank != other.rank ? rank < other.rank : request.id < other.request.id;
  }
};

// A sequence that has just arrived and goes on after the request's resume_ids; its rank is the scheduler's to
// give. Hashes the prompt, which takes time where it is long: on the submitter's thread, without a lock.
// `base`: digest of the frozen base, part of every prefix key.
std::unique_ptr<Sequence> MakeSequence(SequenceRequest request, const Digest& base, int max_sequence_tokens);

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_SEQUENCE_H_
