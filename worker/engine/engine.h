#ifndef COTERIE_WORKER_ENGINE_ENGINE_H_
#define COTERIE_WORKER_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/sequence.h"
#include "common/status.h"
#include "model/decoder/language_model.h"
#include "worker/engine/adapter_store.h"
#include "worker/engine/histogram.h"
#include "worker/engine/inbox.h"
#include "worker/engine/kv_manager.h"
#include "worker/engine/mask_maker.h"
#include "worker/engine/outbox.h"
#include "worker/engine/output_batch.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/step_batch.h"

namespace coterie {

struct EngineOptions {
  // Tokens of one step: more fill the device better, fewer delay running answers less.
  int max_batch_tokens = 256;
  int max_seqs = 32;      // sequences of one step; each member of a mixture counts as one
  int max_waiting = 256;  // beyond max_seqs + max_waiting sequences, Submit answers RESOURCE_EXHAUSTED
  int max_logit_rows =
      64;  // rows of logits in one step; at least max_seqs, at most what the model has room for
  absl::Duration aging_interval = absl::Seconds(10);  // see SchedulerOptions
  absl::Duration slot_patience = absl::Seconds(2);
  AdapterStoreOptions adapters;
};

// Figures for metrics and state messages. Written by the engine's thread, read by any.
struct EngineStats {
  std::atomic<uint32_t> running{0};
  std::atomic<uint32_t> waiting{0};  // for a seat, KV blocks or an adapter
  std::atomic<uint32_t> paused{0};   // without credit: their readers are slow, the worker is not
  std::atomic<uint32_t> kv_blocks_used{0};
  std::atomic<uint32_t> kv_blocks_cached{0};
  std::atomic<uint64_t> steps_begun{0};
  std::atomic<uint64_t> steps{0};          // ended
  std::atomic<uint64_t> prompt_tokens{0};  // computed in prompts, recomputed ones included
  std::atomic<uint64_t> generated_tokens{0};
  // Of the steps that computed prompt tokens: all their tokens, and their time. The tokens are counted first.
  std::atomic<uint64_t> prompt_step_tokens{0};
  std::atomic<uint64_t> prompt_step_nanos{0};
  std::atomic<uint64_t> preemptions{0};
  std::atomic<uint64_t> late_masks{0};  // rows computed again, since which tokens were allowed came too late
  std::atomic<uint64_t> not_finite{0};  // sequences ended because their logits were no finite numbers
  std::atomic<uint64_t> prefix_queried_tokens{0};
  std::atomic<uint64_t> prefix_hit_tokens{0};
  Histogram step_seconds{Histogram::StepBounds()};
};

// Runs a LanguageModel for many sequences at once: one thread steps; Submit, Cancel and the others only leave
// a note in its inbox. Inside the step loop there is no file I/O, no allocation of size, no wait for a lock
// (the inbox, the outputs and the adapter loaders' queue are taken by TryLock, or left for the next step) and
// no logging. The loop waits only for a step to be computed, or when there is nothing to compute.
//
// Where the model works by itself (LanguageModelInfo::steps_in_flight is 2), the next step is planned and
// launched before the results of the last are known, so that the device never waits for the host. That a
// sequence has ended is then known one step late: the row that was launched for it meanwhile is dropped.
//
// What comes out is collected for one consumer (WaitOutputs). A sequence's tokens are bounded by its credit,
// so what a slow consumer lets pile up is bounded too.
class Engine {
 public:
  // `model` is borrowed and used by this engine alone. InvalidArgument naming the option out of range.
  // `matchers` (borrowed) says which tokens a constraint allows; null: constrained requests are refused.
  static StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options, LanguageModel* model,
                                                  AdapterStore::Resolver resolver,
                                                  MatcherSource* matchers = nullptr);
  // Stops after the step under way; sequences still there end without an event.
  ~Engine();

  // Any thread; returns at once. After Ok, exactly one kFinish event comes for the request's id.
  //   InvalidArgument: names the field, value and limit;  ResourceExhausted: the queue is full.
  Status Submit(SequenceRequest request);
  // The two halves of Submit. What takes time with a long prompt (checking and hashing it) is done by
  // Prepare, so that a caller need not hold a lock meanwhile; the request's id counts from Submit on only.
  StatusOr<std::unique_ptr<Sequence>> Prepare(SequenceRequest request) const;
  Status Submit(std::unique_ptr<Sequence> sequence);
  // Unknown and finished ids are ignored by these.
  void Cancel(uint64_t id);
  void Fail(uint64_t id, Status why);  // ends it with FinishReason::kError
  // The token at `position` of the answer of a gang's sequence that awaits it (kLogits), kNotFinite included;
  // log-probabilities as they are to be reported. Ignored where the sequence awaits another one.
  void PutToken(DrawnToken drawn);
  void AddCredit(uint64_t id, uint32_t tokens);
  // Takes the place of all credit before: tokens may be generated up to this answer position.
  void SetCreditUntil(uint64_t id, uint32_t position);
  void Prefetch(const Digest& adapter);
  // Ends everything with FinishReason::kError and `status` (handing over to another worker).
  void EndAll(Status status);

  // Not ok from the moment the model said that its device was lost (Unavailable): every sequence was ended
  // with this status, new ones are refused with it, and the model is asked for nothing more. Any thread.
  Status device_status() const;

  // Moves what has come out since the last call into `*batch` (cleared first; its memory is reused). Waits
  // until there is something or `deadline` has passed; false then. One thread.
  bool WaitOutputs(OutputBatch* batch, MonotonicTime deadline);
  // Makes the WaitOutputs under way, or else the next one, return at once.
  void InterruptWait();

  // Most tokens one sequence may have, prompt and answer: the context, or all KV blocks if those are fewer. A
  // mixture of k has k rows of KV, and so a k-th of the blocks for each.
  int max_sequence_tokens() const { return max_sequence_tokens_; }
  // Most members of one mixture: each takes a sequence's place in a step.
  int max_mixture_members() const;
  bool takes_constraints() const { return masks_ != nullptr; }
  const LanguageModelInfo& model_info() const { return model_->info(); }
  const EngineOptions& options() const { return options_; }
  const EngineStats& stats() const { return stats_; }
  const AdapterStoreStats& adapter_stats() const { return adapters_->stats(); }

 private:
  using SequenceMap = absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>>;
  // A step that was launched and not collected.
  struct LaunchedStep {
    StepTicket ticket = 0;
    MonotonicTime launched;
    std::vector<StepEntry> plan;
    std::vector<StepRow> rows;
  };

  Engine(const EngineOptions& options, LanguageModel* model);
  Status Start(AdapterStore::Resolver resolver, MatcherSource* matchers);
  Status QueueFull() const;
  int MaxTokensOf(const SequenceRequest& request) const;

  // The step loop and its parts, in order (engine.cc).
  void Loop();
  void EndWhatComes();  // once the device was lost
  void ApplyInbox();
  void EndExpired(MonotonicTime now);
  void PublishStats();
  void Flush(bool may_wait);
  void WaitForWork();

  // Steps and what comes of them (engine_steps.cc).
  bool LaunchStep(MonotonicTime now);  // false: there is nothing to compute
  void CollectStep();                  // the oldest one in flight
  void Land(const LaunchedStep& step);
  void LoseDevice(const Status& why);
  void NoteStepTime(const LaunchedStep& step, bool has_prompts);
  bool TakeResults(const LaunchedStep& step, const StepResult& result);  // true: it computed prompts
  bool MaskWasLate(const LaunchedStep& step, const StepResult& result, size_t row, const Sequence* s) const;
  void TakeRow(const StepRow& row, int32_t token, std::span<const TokenLogprob> logprobs);
  void Score(const StepRow& row, std::span<const TokenLogprob> logprobs);
  void TellLogits(const LaunchedStep& step, size_t row, std::span<const float> logits);
  void Choose(Sequence* s, int32_t token, std::span<const TokenLogprob> logprobs);
  void TakeToken(Sequence* s, int32_t token, std::span<const TokenLogprob> logprobs);
  void EndNotFinite(Sequence* s, const std::string& place);
  void Finish(Sequence* s, FinishReason reason, int32_t stop_token, Status status);
  void RetireThoseThatLeft();
  void Report(OutputEvent* event, std::span<const TokenLogprob> logprobs);
  OutputEvent* Emit(Sequence* s, OutputEvent::Kind kind);

  const EngineOptions options_;
  const SchedulerOptions scheduler_options_;
  LanguageModel* const model_;
  const int max_sequence_tokens_;
  EngineStats stats_;
  std::atomic<int> n_live_{0};  // submitted and not finished
  Inbox inbox_;
  Outbox outbox_;
  Status device_status_;  // written once, before the flag
  std::atomic<bool> device_lost_{false};

  // Engine's thread only.
  KvManager kv_;
  std::unique_ptr<AdapterStore> adapters_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<MaskMaker> masks_;
  StepBatchBuilder batch_builder_;
  SequenceMap sequences_;
  std::vector<std::unique_ptr<Sequence>> leaving_;  // finished, and part of a step in flight
  InboxNotes notes_;
  OutputBatch pending_;
  std::vector<LaunchedStep> steps_;  // [steps in flight at most], by ticket
  StepTicket n_launched_ = 0;
  StepTicket n_collected_ = 0;
  MonotonicTime last_collected_;
  std::vector<FailedSequence> failed_;
  MonotonicTime next_deadline_ = MonotonicTime::InfiniteFuture();

  std::thread thread_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_ENGINE_H_
