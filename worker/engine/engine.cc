#include "worker/engine/engine.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/engine/check_request.h"
#include "worker/engine/not_finite.h"
#include "worker/engine/sequence.h"

namespace coterie {
namespace {

SchedulerOptions MakeSchedulerOptions(const EngineOptions& o) {
  return {.max_batch_tokens = o.max_batch_tokens,
          .max_seqs = o.max_seqs,
          .max_logit_rows = o.max_logit_rows,
          .max_live = o.max_seqs + o.max_waiting,
          .aging_interval = o.aging_interval,
          .slot_patience = o.slot_patience};
}

int MaxSequenceTokens(const LanguageModelInfo& info) {
  return std::min<int64_t>(info.context_length, int64_t{info.n_kv_blocks} * kPrefixBlockTokens);
}

}  // namespace

StatusOr<std::unique_ptr<Engine>> Engine::Create(const EngineOptions& options, LanguageModel* model,
                                                 AdapterStore::Resolver resolver) {
  if (options.max_waiting < 0) {
    return absl::InvalidArgumentError(absl::StrCat("max_waiting is ", options.max_waiting, "; at least 0"));
  }
  RETURN_IF_ERROR(Scheduler::Validate(MakeSchedulerOptions(options)));
  const LanguageModelInfo& info = model->info();
  if (info.vocab_size < 1 || info.context_length < 2 || info.n_kv_blocks < 1) {
    return absl::InvalidArgumentError(absl::StrCat("the model has ", info.vocab_size,
                                                   " tokens, a context of ", info.context_length, " and ",
                                                   info.n_kv_blocks, " KV blocks; each must be positive"));
  }
  std::unique_ptr<Engine> engine(new Engine(options, model));
  RETURN_IF_ERROR(engine->Start(std::move(resolver)));
  return engine;
}

Engine::Engine(const EngineOptions& options, LanguageModel* model)
    : options_(options),
      scheduler_options_(MakeSchedulerOptions(options)),
      model_(model),
      max_sequence_tokens_(MaxSequenceTokens(model->info())),
      kv_(model->info().n_kv_blocks),
      batch_builder_(options.max_batch_tokens, options.max_seqs,
                     options.max_seqs * (max_sequence_tokens_ / kPrefixBlockTokens + 1),
                     options.max_logit_rows, options.adapters.n_slots, model->info()),
      sampler_(model->info().vocab_size) {
  sequences_.reserve(scheduler_options_.max_live);
  plan_.reserve(2 * options.max_seqs);
  failed_.reserve(scheduler_options_.max_live);
  pending_.Reserve(options.max_seqs);
  outputs_.Reserve(options.max_seqs);
}

Status Engine::Start(AdapterStore::Resolver resolver) {
  auto wake = [this] {
    MutexLock lock(&inbox_mutex_);
    woken_ = true;
    inbox_changed_.Signal();
  };
  ASSIGN_OR_RETURN(adapters_, AdapterStore::Create(options_.adapters, model_, std::move(resolver), wake));
  scheduler_ = std::make_unique<Scheduler>(scheduler_options_, &kv_, adapters_.get());
  thread_ = std::thread([this] { Loop(); });
  return absl::OkStatus();
}

Engine::~Engine() {
  {
    MutexLock lock(&inbox_mutex_);
    stopping_ = true;
    stop_.store(true, std::memory_order_relaxed);
    inbox_changed_.Signal();
  }
  if (thread_.joinable()) thread_.join();
  // Loaders that end call `wake`, which needs the members declared after the store.
  scheduler_.reset();
  adapters_.reset();
}

// --- Callers' threads ---

std::unique_ptr<Sequence> Engine::MakeSequence(GenerateRequest request) const {
  auto s = std::make_unique<Sequence>();
  s->n_prompt = static_cast<int>(request.prompt_ids.size());
  s->max_total = static_cast<int>(
      std::min<int64_t>(max_sequence_tokens_, int64_t{s->n_prompt} + request.sampling.max_tokens));
  s->tokens = std::exchange(request.prompt_ids, {});
  s->tokens.reserve(std::max<size_t>(s->max_total, s->n_prompt + request.resume_ids.size()));
  s->tokens.insert(s->tokens.end(), request.resume_ids.begin(), request.resume_ids.end());
  request.resume_ids = {};

  std::vector<PrefixAdapter> prefix_adapters;
  for (const AdapterUse& use : request.adapters) prefix_adapters.push_back({use.digest, use.weight});
  PrefixHasher hasher;
  s->root = hasher.Root(model_->info().base_digest, prefix_adapters, request.cache_salt);
  const size_t max_blocks = s->max_total / kPrefixBlockTokens + 1;
  s->keys = hasher.Chain(s->root, s->tokens);
  s->keys.reserve(max_blocks);
  s->blocks.reserve(max_blocks);
  s->adapters.reserve(request.adapters.size());

  s->next_prompt_logprob = s->n_prompt;
  if (request.prompt_logprobs_from) s->next_prompt_logprob = std::max<int>(1, *request.prompt_logprobs_from);
  s->credit = std::min(request.initial_credit, kMaxCredit);
  s->arrival = MonotonicNow();
  s->rank = Scheduler::Rank(scheduler_options_, s->arrival, request.priority);
  s->request = std::move(request);
  return s;
}

Status Engine::QueueFull() const {
  return absl::ResourceExhaustedError(
      absl::StrCat("the worker's queue is full: it holds ", scheduler_options_.max_live, " sequences (",
                   options_.max_seqs, " running, ", options_.max_waiting, " waiting); try again later"));
}

StatusOr<std::unique_ptr<Sequence>> Engine::Prepare(GenerateRequest request) const {
  RETURN_IF_ERROR(
      CheckRequest(request, {model_->info().vocab_size, max_sequence_tokens_, options_.adapters.n_slots}));
  if (n_live_.load() >= scheduler_options_.max_live) return QueueFull();
  return MakeSequence(std::move(request));
}

Status Engine::Submit(GenerateRequest request) {
  ASSIGN_OR_RETURN(std::unique_ptr<Sequence> sequence, Prepare(std::move(request)));
  return Submit(std::move(sequence));
}

Status Engine::Submit(std::unique_ptr<Sequence> sequence) {
  if (n_live_.fetch_add(1) >= scheduler_options_.max_live) {
    n_live_.fetch_sub(1);
    return QueueFull();
  }
  MutexLock lock(&inbox_mutex_);
  inbox_.submits.push_back(std::move(sequence));
  inbox_changed_.Signal();
  return absl::OkStatus();
}

void Engine::Cancel(uint64_t id) {
  MutexLock lock(&inbox_mutex_);
  inbox_.cancels.push_back(id);
  inbox_changed_.Signal();
}

void Engine::AddCredit(uint64_t id, uint32_t tokens) {
  MutexLock lock(&inbox_mutex_);
  inbox_.credits.push_back({id, tokens, false});
  inbox_changed_.Signal();
}

void Engine::SetCreditUntil(uint64_t id, uint32_t position) {
  MutexLock lock(&inbox_mutex_);
  inbox_.credits.push_back({id, position, true});
  inbox_changed_.Signal();
}

void Engine::Prefetch(const Digest& adapter) {
  MutexLock lock(&inbox_mutex_);
  if (inbox_.prefetches.size() >= 64) return;  // only hints
  inbox_.prefetches.push_back(adapter);
  inbox_changed_.Signal();
}

void Engine::EndAll(Status status) {
  MutexLock lock(&inbox_mutex_);
  inbox_.end_all = std::move(status);
  inbox_changed_.Signal();
}

bool Engine::WaitOutputs(OutputBatch* batch, MonotonicTime deadline) {
  batch->Clear();
  batch->Reserve(options_.max_seqs);  // it will be the engine's next
  MutexLock lock(&output_mutex_);
  while (outputs_.empty() && !interrupted_) {
    if (!output_ready_.WaitUntil(&output_mutex_, deadline)) break;
  }
  interrupted_ = false;
  if (outputs_.empty()) return false;
  std::swap(*batch, outputs_);
  return true;
}

void Engine::InterruptWait() {
  MutexLock lock(&output_mutex_);
  interrupted_ = true;
  output_ready_.Signal();
}

// --- The engine's thread ---

void Engine::Loop() {
  while (!stop_.load(std::memory_order_relaxed)) {
    TakeInbox(/*may_wait=*/false);
    ApplyInbox();
    adapters_->Poll(/*may_wait=*/false);
    const MonotonicTime now = MonotonicNow();
    EndExpired(now);
    if (Step(now)) {
      Flush(/*may_wait=*/false);
    } else {
      WaitForWork();
    }
  }
}

void Engine::TakeInbox(bool may_wait) {
  if (may_wait) {
    inbox_mutex_.Lock();
  } else if (!inbox_mutex_.TryLock()) {
    return;
  }
  std::swap(taken_, inbox_);
  woken_ = false;
  inbox_mutex_.Unlock();
}

void Engine::ApplyInbox() {
  for (std::unique_ptr<Sequence>& made : taken_.submits) {
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
  for (const CreditGrant& grant : taken_.credits) {
    auto found = sequences_.find(grant.id);
    if (found == sequences_.end()) continue;
    Sequence* s = found->second.get();
    const uint32_t reached = s->answer_position();
    if (grant.absolute) s->credit = 0;
    scheduler_->AddCredit(s, !grant.absolute          ? grant.tokens
                             : grant.tokens > reached ? grant.tokens - reached
                                                      : 0);
  }
  for (uint64_t id : taken_.cancels) {
    if (auto s = sequences_.find(id); s != sequences_.end()) {
      Finish(s->second.get(), FinishReason::kCancelled, -1, absl::OkStatus());
    }
  }
  for (const Digest& digest : taken_.prefetches) adapters_->Prefetch(digest);
  if (!taken_.end_all.ok()) {
    while (!sequences_.empty()) {
      Finish(sequences_.begin()->second.get(), FinishReason::kError, -1, taken_.end_all);
    }
    taken_.end_all = absl::OkStatus();
  }
  taken_.submits.clear();
  taken_.credits.clear();
  taken_.cancels.clear();
  taken_.prefetches.clear();
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

bool Engine::Step(MonotonicTime now) {
  failed_.clear();
  scheduler_->Plan(now, &plan_, &failed_);
  for (FailedSequence& failure : failed_) {
    Finish(failure.sequence, FinishReason::kError, -1, std::move(failure.status));
  }
  if (plan_.empty()) return !failed_.empty();
  const Batch& batch = batch_builder_.Build(plan_);
  const size_t n_tokens = batch.token_ids.size();
  const uint64_t n_prompt_tokens_before = stats_.prompt_tokens.load(std::memory_order_relaxed);
  StepLogits logits;
  if (Status status = batch.logit_top_k.empty() ? model_->Forward(batch, &logits.whole)
                                                : model_->ForwardTop(batch, &logits);
      !status.ok()) {
    for (const StepEntry& entry : plan_) Finish(entry.sequence, FinishReason::kError, -1, status);
  } else {
    TakeResults(batch, logits);
  }
  NoteStepTime(MonotonicNow() - now,
               stats_.prompt_tokens.load(std::memory_order_relaxed) != n_prompt_tokens_before, n_tokens);
  ++pending_.steps;
  stats_.steps.fetch_add(1, std::memory_order_relaxed);
  PublishStats();
  return true;
}

void Engine::NoteStepTime(absl::Duration time, bool has_prompts, size_t n_tokens) {
  stats_.step_seconds.Observe(absl::ToDoubleSeconds(time));
  if (!has_prompts) return;
  stats_.prompt_step_tokens.fetch_add(n_tokens, std::memory_order_relaxed);
  stats_.prompt_step_nanos.fetch_add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(time)),
                                     std::memory_order_relaxed);
}

void Engine::TakeResults(const Batch& batch, const StepLogits& logits) {
  LogitRowReader rows(batch, logits, model_->info().vocab_size);
  uint64_t n_prompt_tokens = 0;
  for (const StepEntry& entry : plan_) {
    Sequence* s = entry.sequence;
    const int first = s->n_computed;
    const int n_given = s->n_tokens();
    kv_.Commit(s, first + entry.n_tokens);
    if (entry.n_tokens > 1 || first + 1 < n_given) n_prompt_tokens += entry.n_tokens;
    const int end = first + entry.n_tokens;
    for (int position = first; position < end; ++position) {
      if (!Scheduler::WantsLogits(*s, position)) continue;
      const StepLogits row = rows.Next();
      // The last token's row yields the answer's next token; rows before it score the prompt.
      if (position + 1 >= s->n_prompt) {
        Choose(s, row);
        break;  // `s` may be finished and gone
      }
      if (!Score(s, position + 1, row.whole)) {
        for (int rest = position + 1; rest < end; ++rest) {
          if (Scheduler::WantsLogits(*s, rest)) rows.Next();
        }
        EndNotFinite(s, absl::StrCat("prompt position ", position + 1));
        break;
      }
      if (s->request.score_only && s->next_prompt_logprob == s->n_prompt) {
        Finish(s, FinishReason::kStop, -1, absl::OkStatus());
        break;
      }
    }
  }
  stats_.prompt_tokens.fetch_add(n_prompt_tokens, std::memory_order_relaxed);
}

void Engine::EndNotFinite(Sequence* s, const std::string& place) {
  stats_.not_finite.fetch_add(1, std::memory_order_relaxed);
  Finish(s, FinishReason::kError, -1, NotFinite(s->request, place));
}

bool Engine::Score(Sequence* s, int position, std::span<const float> logits) {
  const uint32_t begin = static_cast<uint32_t>(pending_.logprobs.size());
  if (!sampler_.AppendLogprobs(logits, s->tokens[position], s->request.sampling.logprobs.value_or(0),
                               &pending_.logprobs)) {
    return false;
  }
  OutputEvent* event = Emit(s, OutputEvent::Kind::kPromptLogprob);
  event->position = static_cast<uint32_t>(position);
  event->token = s->tokens[position];
  event->logprobs_begin = begin;
  event->logprobs_count = static_cast<uint32_t>(pending_.logprobs.size()) - begin;
  s->next_prompt_logprob = position + 1;
  return true;
}

void Engine::Choose(Sequence* s, const StepLogits& logits) {
  const SamplingParams& params = s->request.sampling;
  const uint32_t position = s->answer_position();
  const uint64_t seed = params.seed.value_or(0);
  const int32_t token = logits.top.empty()
                            ? sampler_.Sample(params, seed, position, logits.whole, s->prompt(), s->answer())
                            : sampler_.SampleTop(params, seed, position, logits.top);
  if (token < 0) return EndNotFinite(s, absl::StrCat("answer position ", position));
  const std::vector<int32_t>& eos = model_->info().eos_token_ids;
  const bool ends = (!params.ignore_eos && std::find(eos.begin(), eos.end(), token) != eos.end()) ||
                    std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(),
                              static_cast<uint32_t>(token)) != params.stop_token_ids.end();
  if (ends) {
    Finish(s, FinishReason::kStop, token, absl::OkStatus());
    return;
  }
  const uint32_t begin = static_cast<uint32_t>(pending_.logprobs.size());
  if (params.logprobs.has_value())
    sampler_.AppendLogprobs(logits.whole, token, *params.logprobs, &pending_.logprobs);
  OutputEvent* event = Emit(s, OutputEvent::Kind::kToken);
  event->position = position;
  event->token = token;
  event->logprobs_begin = begin;
  event->logprobs_count = static_cast<uint32_t>(pending_.logprobs.size()) - begin;
  s->tokens.push_back(token);
  --s->credit;
  stats_.generated_tokens.fetch_add(1, std::memory_order_relaxed);
  if (s->n_tokens() >= s->max_total) Finish(s, FinishReason::kLength, -1, absl::OkStatus());
}

void Engine::Finish(Sequence* s, FinishReason reason, int32_t stop_token, Status status) {
  OutputEvent* event = Emit(s, OutputEvent::Kind::kFinish);
  event->finish = reason;
  event->position = s->answer_position();
  event->token = stop_token;
  event->status = std::move(status);
  scheduler_->Remove(s);
  auto found = sequences_.find(s->request.id);
  pending_.retired.push_back(std::move(found->second));
  sequences_.erase(found);
  n_live_.fetch_sub(1);
}

OutputEvent* Engine::Emit(Sequence* s, OutputEvent::Kind kind) {
  OutputEvent& event = pending_.events.emplace_back();
  event.kind = kind;
  event.id = s->request.id;
  if (!s->reported) {
    s->reported = true;
    event.first = true;
    event.cached_prompt_tokens = s->cached_prompt_tokens;
    event.queued_ms = s->queued_ms;
  }
  return &event;
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

// Hands over what this step produced. When the consumer holds the lock at that very moment, it goes with the
// next step's instead.
void Engine::Flush(bool may_wait) {
  adapters_->TakeEvents(&pending_.residency);
  kv_.TakeEvents(&pending_.prefixes);
  if (pending_.empty()) return;
  if (may_wait) {
    output_mutex_.Lock();
  } else if (!output_mutex_.TryLock()) {
    return;
  }
  if (outputs_.empty()) {
    std::swap(outputs_, pending_);
  } else {
    outputs_.Append(&pending_);
  }
  output_ready_.Signal();
  output_mutex_.Unlock();
}

// Nothing can be computed: here, and only here, the thread waits for locks, and then for a note in the inbox,
// a finished load or the next deadline.
void Engine::WaitForWork() {
  if (adapters_->Poll(/*may_wait=*/true) > 0) return;  // somebody may run now
  PublishStats();
  Flush(/*may_wait=*/true);
  MutexLock lock(&inbox_mutex_);
  while (!stopping_ && !woken_ && inbox_.empty()) {
    if (!inbox_changed_.WaitUntil(&inbox_mutex_, next_deadline_)) break;
  }
  woken_ = false;
}

}  // namespace coterie
