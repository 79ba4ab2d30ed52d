#ifndef COTERIE_WORKER_ENGINE_ENGINE_H_
#define COTERIE_WORKER_ENGINE_ENGINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "model/decoder/language_model.h"
#include "worker/engine/adapter_store.h"
#include "worker/engine/histogram.h"
#include "worker/engine/kv_manager.h"
#include "worker/engine/request.h"
#include "worker/engine/sampler.h"
#include "worker/engine/scheduler.h"
#include "worker/engine/step_batch.h"

namespace coterie {

struct EngineOptions {
  int max_batch_tokens =
      256;                // tokens of one step: larger fills the device better, smaller delays decodes less
  int max_seqs = 32;      // sequences of one step
  int max_waiting = 256;  // beyond max_seqs + max_waiting sequences, Submit answers RESOURCE_EXHAUSTED
  int max_logit_rows =
      64;  // rows of logits in one step; at least max_seqs. Must be within the model's own limit
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
  std::atomic<uint64_t> steps{0};
  std::atomic<uint64_t> prompt_tokens{0};  // computed in prompts, recomputed ones included
  std::atomic<uint64_t> generated_tokens{0};
  // Of the steps that computed prompt tokens: all their tokens, and their time. The tokens are counted first.
  std::atomic<uint64_t> prompt_step_tokens{0};
  std::atomic<uint64_t> prompt_step_nanos{0};
  std::atomic<uint64_t> preemptions{0};
  std::atomic<uint64_t> not_finite{0};  // sequences ended because their logits were no finite numbers
  std::atomic<uint64_t> prefix_queried_tokens{0};
  std::atomic<uint64_t> prefix_hit_tokens{0};
  Histogram step_seconds{Histogram::StepBounds()};
};

// Runs a LanguageModel for many sequences at once: one thread steps; Submit, Cancel and the others only leave
// a note in its inbox. Inside the step loop there is no file I/O, no allocation of size, no wait for a lock
// (the inbox, the outputs and the adapter loaders' queue are taken by TryLock, or left for the next step) and
// no logging. The loop waits only when there is nothing to compute.
//
// What comes out is collected for one consumer (WaitOutputs). A sequence's tokens are bounded by its credit,
// so what a slow consumer lets pile up is bounded too.
class Engine {
 public:
  // `model` is borrowed and used by this engine alone. InvalidArgument naming the option out of range.
  static StatusOr<std::unique_ptr<Engine>> Create(const EngineOptions& options, LanguageModel* model,
                                                  AdapterStore::Resolver resolver);
  // Stops after the step under way; sequences still there end without an event.
  ~Engine();

  // Any thread; returns at once. After Ok, exactly one kFinish event comes for the request's id.
  //   InvalidArgument: names the field, value and limit;  ResourceExhausted: the queue is full.
  Status Submit(GenerateRequest request);
  // The two halves of Submit. What takes time with a long prompt (checking and hashing it) is done by
  // Prepare, so that a caller need not hold a lock meanwhile; the request's id counts from Submit on only.
  StatusOr<std::unique_ptr<Sequence>> Prepare(GenerateRequest request) const;
  Status Submit(std::unique_ptr<Sequence> sequence);
  // Unknown and finished ids are ignored by these.
  void Cancel(uint64_t id);
  void AddCredit(uint64_t id, uint32_t tokens);
  // Takes the place of all credit before: tokens may be generated up to this answer position.
  void SetCreditUntil(uint64_t id, uint32_t position);
  void Prefetch(const Digest& adapter);
  // Ends everything with FinishReason::kError and `status` (handing over to another worker).
  void EndAll(Status status);

  // Moves what has come out since the last call into `*batch` (cleared first; its memory is reused). Waits
  // until there is something or `deadline` has passed; false then. One thread.
  bool WaitOutputs(OutputBatch* batch, MonotonicTime deadline);
  // Makes the WaitOutputs under way, or else the next one, return at once.
  void InterruptWait();

  // Most tokens one sequence may have, prompt and answer: the context, or all KV blocks if those are fewer.
  int max_sequence_tokens() const { return max_sequence_tokens_; }
  const LanguageModelInfo& model_info() const { return model_->info(); }
  const EngineOptions& options() const { return options_; }
  const EngineStats& stats() const { return stats_; }
  const AdapterStoreStats& adapter_stats() const { return adapters_->stats(); }

 private:
  struct CreditGrant {
    uint64_t id = 0;
    uint32_t tokens = 0;  // or a position in the answer
    bool absolute = false;
  };
  struct Inbox {
    std::vector<std::unique_ptr<Sequence>> submits;
    std::vector<CreditGrant> credits;
    std::vector<uint64_t> cancels;
    std::vector<Digest> prefetches;
    Status end_all;
    bool empty() const {
      return submits.empty() && credits.empty() && cancels.empty() && prefetches.empty() && end_all.ok();
    }
  };
  using SequenceMap = absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>>;

  Engine(const EngineOptions& options, LanguageModel* model);
  Status Start(AdapterStore::Resolver resolver);
  Status QueueFull() const;
  std::unique_ptr<Sequence> MakeSequence(GenerateRequest request) const;

  // The step loop and its parts, in order.
  void Loop();
  void TakeInbox(bool may_wait);
  void ApplyInbox();
  void EndExpired(MonotonicTime now);
  bool Step(MonotonicTime now);
  void TakeResults(const Batch& batch, const StepLogits& logits);        // the rows of one step
  bool Score(Sequence* s, int position, std::span<const float> logits);  // false: they are not finite
  void Choose(Sequence* s, const StepLogits& logits);                    // of its row
  void EndNotFinite(Sequence* s, const std::string& place);
  void Finish(Sequence* s, FinishReason reason, int32_t stop_token, Status status);
  OutputEvent* Emit(Sequence* s, OutputEvent::Kind kind);
  void NoteStepTime(absl::Duration time, bool has_prompts, size_t n_tokens);
  void PublishStats();
  void Flush(bool may_wait);
  void WaitForWork();

  const EngineOptions options_;
  const SchedulerOptions scheduler_options_;
  LanguageModel* const model_;
  const int max_sequence_tokens_;
  EngineStats stats_;
  std::atomic<int> n_live_{0};  // submitted and not finished

  // Engine's thread only.
  KvManager kv_;
  std::unique_ptr<AdapterStore> adapters_;
  std::unique_ptr<Scheduler> scheduler_;
  StepBatchBuilder batch_builder_;
  Sampler sampler_;
  SequenceMap sequences_;
  Inbox taken_;
  OutputBatch pending_;
  std::vector<StepEntry> plan_;
  std::vector<FailedSequence> failed_;
  MonotonicTime next_deadline_ = MonotonicTime::InfiniteFuture();

  Mutex inbox_mutex_;
  CondVar inbox_changed_;
  Inbox inbox_ ABSL_GUARDED_BY(inbox_mutex_);
  bool woken_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(inbox_mutex_) = false;
  std::atomic<bool> stop_{false};

  Mutex output_mutex_;
  CondVar output_ready_;
  OutputBatch outputs_ ABSL_GUARDED_BY(output_mutex_);
  bool interrupted_ ABSL_GUARDED_BY(output_mutex_) = false;

  std::thread thread_;
};

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_ENGINE_H_
