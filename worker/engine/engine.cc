#include "worker/engine/engine.h"

#include <algorithm>

#include "common/check.h"
#include "worker/engine/check_request.h"
#include "worker/engine/sequence.h"

namespace coterie {
namespace {

SchedulerOptions MakeSchedulerOptions(const EngineOptions& o, const LanguageModelInfo& info) {
  return {.max_batch_tokens = o.max_batch_tokens,
          .max_seqs = o.max_seqs,
          .max_logit_rows = o.max_logit_rows,
          .max_live = o.max_seqs + o.max_waiting,
          .late_masks = info.steps_in_flight == 1,
          .n_seats = o.max_seqs * info.steps_in_flight,
          .aging_interval = o.aging_interval,
          .slot_patience = o.slot_patience};
}

// Of a sequence of so many rows.
int MaxSequenceTokens(const LanguageModelInfo& info, int n_rows) {
  return std::min<int64_t>(info.context_length, int64_t{info.n_kv_blocks / n_rows} * kPrefixBlockTokens);
}

}  // namespace

StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options, LanguageModel* model,
                                                 AdapterStore::Resolver resolver, MatcherSource* matchers) {
  if (options.max_waiting < 0) {
    return absl::InvalidArgumentError(absl::StrCat("max_waiting is ", options.max_waiting, "; at least 0"));
  }
  const LanguageModelInfo& info = model->info();
  const SchedulerOptions scheduler = MakeSchedulerOptions(options, info);
  RETURN_IF_ERROR(Scheduler::Validate(scheduler));
  if (info.vocab_size < 1 || info.context_length < 2 || info.n_kv_blocks < 1) {
    return absl::InvalidArgumentError(absl::StrCat("the model has ", info.vocab_size,
                                                   " tokens, a context of ", info.context_length, " and ",
                                                   info.n_kv_blocks, " KV blocks; each must be positive"));
  }
  if (info.n_seats < scheduler.n_seats) {
    return absl::InvalidArgumentError(absl::StrCat("the model was made with ", info.n_seats, " seats; ",
                                                   options.max_seqs, " sequences in each of ",
                                                   info.steps_in_flight, " steps want ", scheduler.n_seats));
  }
  if (model->adapter_slots().n_slots() < options.adapters.n_slots) {
    return absl::InvalidArgumentError(absl::StrCat("the model was made with ",
                                                   model->adapter_slots().n_slots(), " adapter slots; ",
                                                   options.adapters.n_slots, " are to be used"));
  }
  std::unique_ptr<Engine> engine(new Engine(options, model));
  RETURN_IF_ERROR(engine->Start(std::move(resolver), matchers));
  return engine;
}

Engine::Engine(const EngineOptions& options, LanguageModel* model)
    : options_(options),
      scheduler_options_(MakeSchedulerOptions(options, model->info())),
      model_(model),
      max_sequence_tokens_(MaxSequenceTokens(model->info(), /*n_rows=*/1)),
      outbox_(options.max_seqs),
      kv_(model->info().n_kv_blocks),
      batch_builder_(options.max_batch_tokens, options.max_seqs,
                     options.max_seqs * (max_sequence_tokens_ / kPrefixBlockTokens + 1),
                     options.max_logit_rows, model->info().vocab_size, model->info().steps_in_flight == 1),
      steps_(static_cast<size_t>(model->info().steps_in_flight)) {
  COTERIE_CHECK(steps_.size() == 1 || steps_.size() == 2) << "steps in flight: " << steps_.size();
  sequences_.reserve(scheduler_options_.max_live);
  for (LaunchedStep& step : steps_) {
    step.plan.reserve(2 * options.max_seqs);
    step.rows.reserve(options.max_logit_rows);
  }
  leaving_.reserve(scheduler_options_.n_seats);
  failed_.reserve(scheduler_options_.max_live);
  pending_.Reserve(options.max_seqs);
}

Status Engine::Start(AdapterStore::Resolver resolver, MatcherSource* matchers) {
  ASSIGN_OR_RETURN(adapters_, AdapterStore::Create(options_.adapters, model_, std::move(resolver),
                                                   [this] { inbox_.Wake(); }));
  scheduler_ = std::make_unique<Scheduler>(scheduler_options_, &kv_, adapters_.get());
  if (matchers != nullptr) {
    masks_ = std::make_unique<MaskMaker>(matchers, model_->info().vocab_size, scheduler_options_.max_live,
                                         [this] { inbox_.Wake(); });
  }
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

Engine::~Engine() {
  inbox_.Stop();
  if (thread_.joinable()) thread_.join();
  // The device may still be reading adapters.
  while (n_collected_ < n_launched_) (void)model_->Collect(steps_[++n_collected_ % steps_.size()].ticket);
  scheduler_.reset();
  adapters_.reset();  // first: loaders that end wake the inbox
  masks_.reset();     // likewise
}

// --- Callers' threads ---

Status Engine::QueueFull() const {
  return absl::ResourceExhaustedError(
      absl::StrCat("the worker's queue is full: it holds ", scheduler_options_.max_live, " sequences (",
                   options_.max_seqs, " running, ", options_.max_waiting, " waiting); try again later"));
}

Status Engine::device_status() const {
  return device_lost_.load(std::memory_order_acquire) ? device_status_ : absl::OkStatus();
}

int Engine::max_mixture_members() const {
  return std::min(options_.max_seqs, static_cast<int>(kMaxMixtureMembers));
}

// More members than there may be are refused by their number, not by what room would be left for each.
int Engine::MaxTokensOf(const SequenceRequest& request) const {
  const auto n_members = static_cast<int>(std::min(request.mixture.size(), kMaxMixtureMembers));
  return MaxSequenceTokens(model_->info(), std::max(1, n_members));
}

StatusOr<std::unique_ptr<Sequence>> Engine::Prepare(SequenceRequest request) const {
  RETURN_IF_ERROR(device_status());
  const int max_tokens = MaxTokensOf(request);
  RETURN_IF_ERROR(CheckRequest(request, {.vocab_size = model_->info().vocab_size,
                                         .max_sequence_tokens = max_tokens,
                                         .n_adapter_slots = options_.adapters.n_slots,
                                         .max_mixture_members = max_mixture_members(),
                                         .takes_constraints = takes_constraints(),
                                         .gates = model_->info().gates}));
  if (n_live_.load() >= scheduler_options_.max_live) return QueueFull();
  std::shared_ptr<AnswerMasks> masks;
  if (request.sampling.constraint) {
    ASSIGN_OR_RETURN(masks, masks_->Begin(std::move(request.sampling.constraint), request.resume_ids));
  }
  std::unique_ptr<Sequence> sequence =
      MakeSequence(std::move(request), model_->info().base_digest, max_tokens);
  if (sequence->request.gang) {
    sequence->gang_logits = std::make_shared<std::vector<float>>(
        sequence->rows.size() * static_cast<size_t>(model_->info().vocab_size));
  }
  sequence->masks = std::move(masks);
  sequence->rank = Scheduler::Rank(scheduler_options_, sequence->arrival, sequence->request.priority);
  return sequence;
}

Status Engine::Submit(SequenceRequest request) {
  ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Prepare(std::move(request)));
  return Submit(std::move(sequence));
}

Status Engine::Submit(std::unique_ptr<Sequence> sequence) {
  RETURN_IF_ERROR(device_status());
  if (n_live_.fetch_add(1) >= scheduler_options_.max_live) {
    n_live_.fetch_sub(1);
    return QueueFull();
  }
  inbox_.Submit(std::move(sequence));
  return absl::OkStatus();
}

void Engine::Cancel(uint64_t id) { inbox_.Cancel(id); }

void Engine::Fail(uint64_t id, Status why) { inbox_.Fail({id, std::move(why)}); }

void Engine::PutToken(DrawnToken drawn) { inbox_.PutToken(std::move(drawn)); }

void Engine::AddCredit(uint64_t id, uint32_t tokens) { inbox_.Credit({id, tokens, false}); }

void Engine::SetCreditUntil(uint64_t id, uint32_t position) { inbox_.Credit({id, position, true}); }

void Engine::Prefetch(const Digest& adapter) { inbox_.Prefetch(adapter); }

void Engine::EndAll(Status status) { inbox_.EndAll(std::move(status)); }

bool Engine::WaitOutputs(OutputBatch* batch, MonotonicTime deadline) { return outbox_.Wait(batch, deadline); }

void Engine::InterruptWait() { outbox_.InterruptWait(); }

// --- The engine's thread ---

void Engine::Loop() {
  const auto n_in_flight = [this] { return n_launched_ - n_collected_; };
  while (!inbox_.stopping()) {
    inbox_.TryTake(&notes_);
    if (device_lost_.load(std::memory_order_relaxed)) {
      EndWhatComes();
      continue;
    }
    ApplyInbox();
    adapters_->Poll(/*may_wait=*/false);
    const MonotonicTime now = MonotonicNow();
    EndExpired(now);
    while (scheduler_->NeedsQuiet() && n_in_flight() > 0) CollectStep();
    if (masks_ != nullptr) masks_->Flush(/*may_wait=*/false);
    const bool launched = LaunchStep(now);
    if (n_in_flight() == steps_.size() || (!launched && n_in_flight() > 0)) {
      CollectStep();
    } else if (!launched) {
      WaitForWork();
      continue;
    }
    Flush(/*may_wait=*/false);
  }
}

// What was submitted while the device was being lost.
void Engine::EndWhatComes() {
  notes_.prefetches.clear();
  notes_.end_all = device_status_;
  ApplyInbox();
  PublishStats();
  Flush(/*may_wait=*/true);
  inbox_.WaitUntil(MonotonicTime::InfiniteFuture());
}

void Engine::ApplyInbox() {
  for (std::unique_ptr<Sequence>& made : notes_.submits) {
    Sequence* s = made.get();
    COTERIE_CHECK(sequences_.emplace(s->request.id, std::move(made)).second)
        << "id " << s->request.id << " used twice";
    for (const AdapterUse& use : s->request.adapters) s->adapters.push_back(adapters_->Ref(use.digest));
    next_deadline_ = std::min(next_deadline_, s->request.deadline);
    scheduler_->Add(s);
    if (!s->request.score_only && s->n_tokens() >= s->max_total) {
      Finish(s, FinishReason::kLength, -1, absl::OkStatus());
    }
  }
  for (const DrawnToken& drawn : notes_.drawn) {
    auto found = sequences_.find(drawn.id);
    if (found == sequences_.end()) continue;
    Sequence* s = found->second.get();
    if (!s->awaits_token || drawn.position != s->answer_position()) continue;
    s->awaits_token = false;
    TakeToken(s, drawn.token, drawn.logprobs);
  }
  for (FailNote& note : notes_.fails) {
    if (auto s = sequences_.find(note.id); s != sequences_.end()) {
      Finish(s->second.get(), FinishReason::kError, -1, std::move(note.why));
    }
  }
  for (const CreditGrant& grant : notes_.credits) {
    auto found = sequences_.find(grant.id);
    if (found == sequences_.end()) continue;
    Sequence* s = found->second.get();
    const uint32_t reached = s->answer_position();
    if (grant.absolute) s->credit = 0;
    scheduler_->AddCredit(s, !grant.absolute          ? grant.tokens
                             : grant.tokens > reached ? grant.tokens - reached
                                                      : 0);
  }
  for (uint64_t id : notes_.cancels) {
    if (auto s = sequences_.find(id); s != sequences_.end()) {
      Finish(s->second.get(), FinishReason::kCancelled, -1, absl::OkStatus());
    }
  }
  for (const Digest& digest : notes_.prefetches) adapters_->Prefetch(digest);
  if (!notes_.end_all.ok()) {
    while (!sequences_.empty()) {
      Finish(sequences_.begin()->second.get(), FinishReason::kError, -1, notes_.end_all);
    }
  }
  notes_.Clear();
}

void Engine::EndExpired(MonotonicTime now) {
  if (now < next_deadline_) return;
  next_deadline_ = MonotonicTime::InfiniteFuture();
  for (auto entry = sequences_.begin(); entry != sequences_.end();) {
    Sequence* s = entry->second.get();
    ++entry;  // Finish erases the one before
    if (s->request.deadline <= now) {
      Finish(s, FinishReason::kDeadline, -1, absl::OkStatus());
    } else {
      next_deadline_ = std::min(next_deadline_, s->request.deadline);
    }
  }
}

void Engine::PublishStats() {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  stats_.running.store(scheduler_->n_running(), kRelaxed);
  stats_.waiting.store(scheduler_->n_waiting(), kRelaxed);
  stats_.paused.store(scheduler_->n_paused(), kRelaxed);
  stats_.kv_blocks_used.store(kv_.n_used(), kRelaxed);
  stats_.kv_blocks_cached.store(kv_.n_cached(), kRelaxed);
  stats_.preemptions.store(scheduler_->n_preemptions(), kRelaxed);
  stats_.prefix_queried_tokens.store(scheduler_->prefix_queried_tokens(), kRelaxed);
  stats_.prefix_hit_tokens.store(scheduler_->prefix_hit_tokens(), kRelaxed);
}

// Hands over what was produced since the last time.
void Engine::Flush(bool may_wait) {
  adapters_->TakeEvents(&pending_.residency);
  kv_.TakeEvents(&pending_.prefixes);
  outbox_.Put(&pending_, may_wait);
}

// Nothing can be computed: here, and only here, the thread waits for locks, and then for a note in the inbox,
// a finished load or the next deadline.
void Engine::WaitForWork() {
  if (adapters_->Poll(/*may_wait=*/true) > 0) return;  // somebody may run now
  if (masks_ != nullptr) masks_->Flush(/*may_wait=*/true);
  PublishStats();
  Flush(/*may_wait=*/true);
  // An upload tells nobody that it has ended.
  constexpr absl::Duration kUploadPoll = absl::Microseconds(100);
  inbox_.WaitUntil(scheduler_->WaitsForUploads() ? std::min(next_deadline_, MonotonicNow() + kUploadPoll)
                                                 : next_deadline_);
}

}  // namespace coterie
