#ifndef COTERIE_WORKER_ENGINE_SCHEDULER_H_
#define COTERIE_WORKER_ENGINE_SCHEDULER_H_

#include <cstdint>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/status.h"
#include "worker/engine/adapter_store.h"
#include "worker/engine/fair_shares.h"
#include "worker/engine/kv_manager.h"
#include "worker/engine/sequence.h"
#include "worker/engine/turn_queue.h"

namespace coterie {

struct SchedulerOptions {
  int max_batch_tokens = 256;  // of one step; above max_seqs, so that prompts go on however many decode
  int max_seqs = 32;           // running at once; each row of a sequence counts as one
  int max_logit_rows = 64;     // of one step; at least max_seqs
  int max_live = 32 + 256;     // sequences ever known at once (memory is reserved for so many)
  // Whether a mask may come while its step is computed; else a row wants it when the step is launched.
  bool late_masks = false;
  int n_seats = 32;  // max_seqs for each step that may be in flight
  // One level of priority is worth this much waiting: a sequence overtakes those of higher priority that
  // arrive later than that.
  absl::Duration aging_interval = absl::Seconds(10);
  // How long a sequence may be passed over for want of adapter slots or memory, before nothing behind it gets
  // any.
  absl::Duration slot_patience = absl::Seconds(2);
  // A prompt that has begun goes on before others begin until its tenant or expert is this far ahead of
  // theirs (units of FairShares): cutting every prompt into small turns would delay the first token of all.
  uint64_t turn = 1024;
};

// One sequence's share of a step.
struct StepEntry {
  Sequence* sequence = nullptr;
  int first = 0;     // position
  int n_tokens = 0;  // for each row of the sequence

  int n_computed() const { return n_tokens * sequence->n_rows(); }
};

struct FailedSequence {
  Sequence* sequence = nullptr;
  Status status;  // ok: its constraint has ended it
};

// Decides which tokens the next step computes (continuous batching as in Orca, Yu et al. 2022; paging and
// preemption by recomputation as in vLLM, Kwon et al. 2023; chunked prefill as in Sarathi-Serve, Agrawal et
// al. 2024). Each step, within max_batch_tokens: first one token for every decoding sequence, then prompts
// (prefill), begun and new ones, of the last one as large a chunk as there is room for; they go in turn: by
// priority, except that what has aged beyond everything of higher priority goes first; within that the tenant
// that was served least, then that tenant's expert that was served least (turn_queue.h), then by rank.
//
// Blocks run out: sequences without credit give theirs first, then the running sequence of the worst rank
// (lowest priority, latest arrival) is preempted: put back among those that wait, and later recomputed. The
// one of the best rank is never preempted, so there is always progress. A newcomer starts only when its whole
// prompt has room, and each of its rows a seat; it waits in line for that, and takes blocks from running
// sequences only of lower priority.
//
// A plan may be made while a step is in flight. Nothing is taken from a sequence that the step reads: where
// that would be necessary, NeedsQuiet() asks for the next plan to be made with nothing in flight.
//
// Not thread-safe: the engine's thread owns it. Allocates nothing in steady state.
class Scheduler {
 public:
  // Borrows `kv` and `adapters`.
  Scheduler(const SchedulerOptions& options, KvManager* kv, AdapterStore* adapters);
  static Status Validate(const SchedulerOptions& options);
  static int64_t Rank(const SchedulerOptions& options, MonotonicTime arrival, int priority);

  // Borrows the sequence until LetGo.
  void Add(Sequence* sequence);
  // Ends it: no plan will have it. What it holds is let go by LetGo, once no step in flight uses it.
  void Remove(Sequence* sequence);
  void LetGo(Sequence* sequence);  // blocks, pins, references and seat
  void AddCredit(Sequence* sequence, uint32_t tokens);

  // The next step; empty when nothing can run now. `failed` gets sequences whose adapter cannot be had; the
  // caller Removes them.
  void Plan(MonotonicTime now, std::vector<StepEntry>* plan, std::vector<FailedSequence>* failed);
  // The last plan would have preempted a sequence that is in flight.
  bool NeedsQuiet() const { return needs_quiet_; }
  // The last plan left out sequences whose adapters are on their way to their slots.
  bool WaitsForUploads() const { return waits_for_uploads_; }

  // Whether a step computes logits for the token at `position`: the last one, or one before a scored token.
  static bool WantsLogits(const Sequence& sequence, int position);

  int n_running() const { return static_cast<int>(running_.size()); }
  int n_waiting() const { return turns_.size(); }
  int n_paused() const { return static_cast<int>(paused_.size()); }  // without credit
  uint64_t n_preemptions() const { return n_preemptions_; }
  uint64_t prefix_queried_tokens() const { return prefix_queried_tokens_; }
  uint64_t prefix_hit_tokens() const { return prefix_hit_tokens_; }

 private:
  using List = std::vector<Sequence*>;  // by rank, best first
  static void Insert(List* list, Sequence* sequence);
  static void Erase(List* list, Sequence* sequence);
  static int Remaining(const Sequence& sequence);
  static bool Prompting(const Sequence& sequence);

  // What a step's further newcomers may no longer have, because of those before them.
  struct NewcomerLimits {
    bool slots_kept = false;   // for a sequence that was passed over for too long
    bool memory_kept = false;  // the same
    bool blocks_short = false;
    bool seats_short = false;
  };

  void PauseThoseWithoutCredit();
  void PlanDecodes();
  // Prefill: prompts, and newcomers among them.
  void PlanPrompts(MonotonicTime now);
  bool HasSeat(const NewcomerLimits& limits) const;
  void Admit(Sequence* sequence, MonotonicTime now, NewcomerLimits* limits);
  bool HasAdapters(Sequence* sequence, MonotonicTime now, bool has_seat, NewcomerLimits* limits);
  bool HasFailed(const Sequence* sequence) const;  // in the plan under way
  // Whether a step that chooses the sequence's next token may be launched now. Notes where its constraint has
  // ended it.
  bool MayChoose(Sequence* sequence);
  bool MakeRoom(Sequence* sequence);
  void Start(Sequence* sequence, MonotonicTime now);
  void Unseat(Sequence* sequence);
  // Plans a chunk of `sequence`, as much as the budgets allow; nothing is no failure. False when the sequence
  // itself was preempted for want of blocks.
  bool PlanTokens(Sequence* sequence);
  Sequence* IdleHolder(const Sequence* besides) const;
  void Preempt(Sequence* victim);

  const SchedulerOptions options_;
  KvManager* const kv_;
  AdapterStore* const adapters_;
  List running_, paused_;
  int n_running_rows_ = 0;
  FairShares shares_;
  TurnQueue turns_;              // those that wait
  List begun_;                   // running, with a prompt to compute; of the Plan call under way
  std::vector<int> free_seats_;  // the lowest last
  bool needs_quiet_ = false;
  bool waits_for_uploads_ = false;

  std::vector<StepEntry>* plan_ = nullptr;  // of the Plan call under way
  std::vector<FailedSequence>* failed_ = nullptr;
  int token_budget_ = 0;
  int row_budget_ = 0;
  uint64_t n_admitted_ = 0;
  uint64_t n_preemptions_ = 0;
  uint64_t prefix_queried_tokens_ = 0;
  uint64_t prefix_hit_tokens_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_SCHEDULER_H_
