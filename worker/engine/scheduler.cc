#include "worker/engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/clock.h"
#include "worker/engine/mask_maker.h"

namespace coterie {
namespace {

// Shares alone cannot promise that a much served party's sequence is ever reached while new parties keep
// coming. So one admission in four, the longest waiting goes first once it has waited for six aging
// intervals.
constexpr uint64_t kOverdueEvery = 4;
constexpr int kOverdueIntervals = 6;
// Of those that wait, so many are looked at in one step while there is a seat to give, and so many otherwise:
// tens of thousands of them cost a step no more than its first ones do. Whoever stands further behind has its
// adapter asked for later.
constexpr int kLookAhead = 1024;
constexpr int kLookAheadWithoutSeat = 512;

}  // namespace

Status Scheduler::Validate(const SchedulerOptions& o) {
  if (o.max_seqs < 1)
    return absl::InvalidArgumentError(absl::StrCat("max_seqs is ", o.max_seqs, "; at least 1"));
  if (o.max_batch_tokens <= o.max_seqs) {
    return absl::InvalidArgumentError(absl::StrCat("max_batch_tokens is ", o.max_batch_tokens,
                                                   "; it must be above max_seqs, which is ", o.max_seqs,
                                                   ", or prompts would stand still while all decode"));
  }
  if (o.max_logit_rows < o.max_seqs) {
    return absl::InvalidArgumentError(absl::StrCat("max_logit_rows is ", o.max_logit_rows,
                                                   "; it must be at least max_seqs, which is ", o.max_seqs));
  }
  if (o.max_live < o.max_seqs) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_live is ", o.max_live, "; it must be at least max_seqs, which is ", o.max_seqs));
  }
  return absl::OkStatus();
}

int64_t Scheduler::Rank(const SchedulerOptions& options, MonotonicTime arrival, int priority) {
  return absl::ToInt64Microseconds(arrival.since_epoch()) -
         priority * absl::ToInt64Microseconds(options.aging_interval);
}

Scheduler::Scheduler(const SchedulerOptions& options, KvManager* kv, AdapterStore* adapters)
    : options_(options),
      kv_(kv),
      adapters_(adapters),
      turns_({.overdue = kOverdueIntervals * options.aging_interval,
              .turn = options.turn,
              .max_live = options.max_live}) {
  for (List* list : {&running_, &paused_, &begun_}) list->reserve(options.max_live);
  for (int seat = options.n_seats; seat-- > 0;) free_seats_.push_back(seat);
}

void Scheduler::Insert(List* list, Sequence* s) {
  auto place = std::lower_bound(list->begin(), list->end(), s,
                                [](const Sequence* a, const Sequence* b) { return a->before(*b); });
  list->insert(place, s);
}

void Scheduler::Erase(List* list, Sequence* s) {
  auto found = std::find(list->begin(), list->end(), s);
  COTERIE_CHECK(found != list->end()) << "sequence " << s->request.id << " is not where its state says";
  list->erase(found);
}

void Scheduler::Add(Sequence* s) {
  s->state = SequenceState::kWaiting;
  shares_.Enter(s);
  turns_.Add(s);
}

void Scheduler::Remove(Sequence* s) {
  switch (s->state) {
    case SequenceState::kWaiting:
      turns_.Remove(s);
      break;
    case SequenceState::kRunning:
      Erase(&running_, s);
      n_running_rows_ -= s->n_rows();
      break;
    case SequenceState::kPaused:
      Erase(&paused_, s);
      break;
    case SequenceState::kFinished:
      return;
  }
  shares_.Leave(s);
  s->state = SequenceState::kFinished;
}

void Scheduler::LetGo(Sequence* s) {
  COTERIE_CHECK(s->state == SequenceState::kFinished && s->n_in_flight == 0)
      << "sequence " << s->request.id << " is still at work";
  kv_->Release(s);
  Unseat(s);
  adapters_->Release(s->adapters, &s->claim);
  for (AdapterEntry* entry : s->adapters) adapters_->Unref(entry);
  s->adapters.clear();
}

// Of a sequence that runs no more: its seats and the slots of its adapters.
void Scheduler::Unseat(Sequence* s) {
  if (s->rows.front().seat < 0) return;
  for (SequenceRow& row : s->rows) free_seats_.push_back(std::exchange(row.seat, -1));
  s->counts_stale = true;
  s->uploaded = false;
  adapters_->Unpin(s->adapters);
}

void Scheduler::AddCredit(Sequence* s, uint32_t tokens) {
  s->credit = std::min<uint64_t>(kMaxCredit, uint64_t{s->credit} + tokens);
  if (s->state != SequenceState::kPaused || s->credit == 0) return;
  Erase(&paused_, s);
  Add(s);
}

// Tokens that may be computed now. The last one yields an answer token and so wants credit and room, and of a
// gang's sequence the one before it; scoring alone never needs it at all.
int Scheduler::Remaining(const Sequence& s) {
  const bool waits_for_token = s.gang_logits != nullptr && (s.awaits_token || s.n_choosing > 0);
  const bool without_last = s.request.score_only || waits_for_token ||
                            s.credit <= static_cast<uint32_t>(s.n_choosing) || s.n_positions() >= s.max_total;
  return s.n_positions() - (without_last ? 1 : 0) - s.n_launched;
}

// Has a prompt, or all that a preempted sequence must recompute, before it; a decoding sequence has one
// token.
bool Scheduler::Prompting(const Sequence& s) { return s.n_positions() - s.n_launched != 1; }

bool Scheduler::WantsLogits(const Sequence& s, int position) {
  if (position + 1 >= s.next_prompt_logprob && position + 1 < s.n_prompt) return true;
  return position + 1 == s.n_positions() && !s.request.score_only;
}

void Scheduler::Plan(MonotonicTime now, std::vector<StepEntry>* plan, std::vector<FailedSequence>* failed) {
  plan->clear();
  plan_ = plan;
  failed_ = failed;
  needs_quiet_ = false;
  waits_for_uploads_ = false;
  token_budget_ = options_.max_batch_tokens;
  row_budget_ = options_.max_logit_rows;
  adapters_->BeginRound();
  PauseThoseWithoutCredit();
  PlanDecodes();
  PlanPrompts(now);
  adapters_->EndRound();
  // Entries of sequences that were preempted after they had been planned.
  std::erase_if(*plan, [](const StepEntry& entry) { return entry.sequence == nullptr; });
  plan_ = nullptr;
  failed_ = nullptr;
}

void Scheduler::PauseThoseWithoutCredit() {
  for (size_t i = running_.size(); i-- > 0;) {
    Sequence* s = running_[i];
    if (s->request.score_only || s->n_in_flight > 0 || s->awaits_token || Remaining(*s) > 0) continue;
    running_.erase(running_.begin() + i);
    n_running_rows_ -= s->n_rows();
    Unseat(s);
    s->state = SequenceState::kPaused;
    Insert(&paused_, s);
    shares_.Leave(s);
  }
}

void Scheduler::PlanDecodes() {
  // PlanTokens may preempt sequences behind position i, or the one at i itself.
  for (size_t i = 0; i < running_.size();) {
    Sequence* s = running_[i];
    if (!Prompting(*s) && token_budget_ > 0 && !PlanTokens(s)) continue;
    ++i;
  }
}

bool Scheduler::HasSeat(const NewcomerLimits& limits) const {
  return !limits.blocks_short && !limits.seats_short && n_running_rows_ < options_.max_seqs &&
         token_budget_ > 0;
}

void Scheduler::PlanPrompts(MonotonicTime now) {
  begun_.clear();
  for (Sequence* s : running_) {
    if (Prompting(*s) && !s->awaits_token) begun_.push_back(s);
  }
  turns_.Begin(begun_, now, /*overdue_due=*/n_admitted_ % kOverdueEvery == 0);
  NewcomerLimits limits;
  while (Sequence* s = turns_.Next(HasSeat(limits) ? kLookAhead : kLookAheadWithoutSeat)) {
    if (s->state == SequenceState::kWaiting) {  // also one that has begun and was preempted by a turn before
      Admit(s, now, &limits);
    } else if (token_budget_ > 0) {
      PlanTokens(s);
    }
  }
}

bool Scheduler::PlanTokens(Sequence* s) {
  const int first = s->n_launched;
  const int n_rows = s->n_rows();
  int n = std::min(Remaining(*s), token_budget_ / n_rows);
  if (s->next_prompt_logprob < s->n_prompt) {
    const int first_row = std::max(first, s->next_prompt_logprob - 1);
    // Logits that are mixed stand side by side in a step: one position of a mixture at a time.
    n = std::min(n, first_row - first + (n_rows == 1 ? row_budget_ : std::min(1, row_budget_ / n_rows)));
  }
  if (row_budget_ < n_rows && first + n == s->n_positions()) --n;
  if (s->masks != nullptr && first + n == s->n_positions() && n > 0 && !MayChoose(s)) --n;
  if (n <= 0) return true;
  if (!s->uploaded) {
    if (HasFailed(s)) return true;
    if (Status error = adapters_->UploadError(s->adapters); !error.ok()) {
      failed_->push_back({s, std::move(error)});
      return true;
    }
    if (!adapters_->Uploaded(s->adapters)) {
      waits_for_uploads_ = true;
      return true;
    }
    s->uploaded = true;
  }
  while (!kv_->Reserve(s, first + n)) {
    Sequence* victim = IdleHolder(s);
    if (victim == nullptr)
      victim = running_.back();  // the worst rank of all; s itself when nobody is behind it
    if (victim->n_in_flight > 0) {
      needs_quiet_ = true;
      return true;
    }
    Preempt(victim);
    if (victim == s) return false;
  }
  for (int position = first; position < first + n; ++position) {
    row_budget_ -= WantsLogits(*s, position) ? n_rows : 0;
  }
  token_budget_ -= n * n_rows;
  shares_.Charge(s, n, first + n == s->n_positions() && !s->request.score_only);
  plan_->push_back({s, first, n});
  return true;
}

bool Scheduler::MayChoose(Sequence* s) {
  // A step in flight chooses the token before: nobody knows yet what may follow it.
  if (s->n_choosing > 0 || HasFailed(s)) return false;
  if (!s->masks->ready()) return options_.late_masks && s->mask_may_be_late;
  if (s->masks->next == NextTokens::kSome) return true;
  failed_->push_back({s, s->masks->status});
  return false;
}

bool Scheduler::HasFailed(const Sequence* s) const {
  return std::any_of(failed_->begin(), failed_->end(),
                     [s](const FailedSequence& failure) { return failure.sequence == s; });
}

// The worst-ranked sequence that holds blocks without running.
Sequence* Scheduler::IdleHolder(const Sequence* besides) const {
  for (auto s = paused_.rbegin(); s != paused_.rend(); ++s) {
    if ((*s)->n_blocks() > 0 && *s != besides) return *s;
  }
  return turns_.LastWithBlocks(besides);
}

// Takes the victim's KV blocks. One that runs waits for its turn again, and computes its tokens anew then.
void Scheduler::Preempt(Sequence* victim) {
  ++n_preemptions_;
  kv_->Release(victim);
  if (victim->state != SequenceState::kRunning) return;
  for (StepEntry& entry : *plan_) {
    if (entry.sequence != victim) continue;
    token_budget_ += entry.n_computed();  // its rows are not given back: they are few, and this is rare
    entry.sequence = nullptr;
  }
  Erase(&running_, victim);
  n_running_rows_ -= victim->n_rows();
  Unseat(victim);
  Add(victim);
}

// Room for every token `s` has, and one block for each running row to grow by.
bool Scheduler::MakeRoom(Sequence* s) {
  const int wanted = s->n_tokens();
  while (KvManager::MissingBlocks(*s, wanted) + n_running_rows_ > kv_->n_available()) {
    Sequence* victim = IdleHolder(s);
    if (victim == nullptr && !running_.empty()) {
      Sequence* last = running_.back();
      if (last->request.priority < s->request.priority && s->before(*last)) victim = last;
    }
    if (victim == nullptr) return false;
    if (victim->n_in_flight > 0) {
      needs_quiet_ = true;
      return false;
    }
    Preempt(victim);
  }
  return kv_->Reserve(s, wanted);
}

void Scheduler::Admit(Sequence* s, MonotonicTime now, NewcomerLimits* limits) {
  const bool has_seat = HasSeat(*limits);
  if (!s->adapters.empty() && !HasAdapters(s, now, has_seat, limits)) return;
  if (!has_seat) return;
  if (n_running_rows_ + s->n_rows() > options_.max_seqs) {
    // Those behind it wait, too: else they would take each seat as it becomes free, and a mixture would never
    // find all of its own.
    limits->seats_short = true;
    return;
  }
  const bool fresh = s->n_blocks() == 0;
  if (fresh) {
    const bool scoring = s->next_prompt_logprob < s->n_prompt;
    kv_->AttachPrefix(s, (scoring ? std::min(s->next_prompt_logprob, s->n_tokens()) : s->n_tokens()) - 1);
  }
  const int n_hit = fresh ? s->n_computed : 0;
  if (!MakeRoom(s)) {
    if (fresh) kv_->Release(s);
    limits->blocks_short = true;
    return;
  }
  if (!s->adapters.empty()) adapters_->Pin(s->adapters, &s->claim);
  turns_.Remove(s);
  ++n_admitted_;
  if (fresh) {
    prefix_queried_tokens_ += s->n_tokens() * s->n_rows();
    prefix_hit_tokens_ += n_hit * s->n_rows();
  }
  Start(s, now);
  PlanTokens(s);
}

// Whether `s` may start on its adapters now. They are asked for, and what failed is told, seat or none. Who
// has waited for memory too long keeps those behind from asking for more, but not from using what they were
// promised: it is that which he waits for.
bool Scheduler::HasAdapters(Sequence* s, MonotonicTime now, bool has_seat, NewcomerLimits* limits) {
  const auto blocked_too_long = [&] {
    s->blocked_since = std::min(s->blocked_since, now);
    return now - s->blocked_since > options_.slot_patience;
  };
  Status error;
  switch (adapters_->Prepare(s->adapters, s->request.priority, !limits->memory_kept, &s->claim, &error)) {
    case AdapterStore::State::kFailed:
      failed_->push_back({s, error});
      return false;
    case AdapterStore::State::kNoMemory:
      if (limits->memory_kept) return false;
      adapters_->WithdrawFrom(s->request.priority, &s->claim);
      limits->memory_kept = has_seat && blocked_too_long();
      return false;
    case AdapterStore::State::kNoSlots:
      if (has_seat && blocked_too_long()) limits->slots_kept = true;
      return false;
    case AdapterStore::State::kLoading:
      s->waited_for_adapter |= has_seat;
      s->times.load_began = std::min(s->times.load_began, now);
      s->blocked_since = MonotonicTime::InfiniteFuture();
      return false;
    case AdapterStore::State::kReady:
      if (s->times.load_began <= now) s->times.load_ended = std::min(s->times.load_ended, now);
      return !limits->slots_kept;
  }
  return false;
}

void Scheduler::Start(Sequence* s, MonotonicTime now) {
  s->state = SequenceState::kRunning;
  for (SequenceRow& row : s->rows) {
    COTERIE_CHECK(!free_seats_.empty()) << "more sequences run than there are seats";
    row.seat = free_seats_.back();
    row.n_table_blocks = 0;
    free_seats_.pop_back();
  }
  n_running_rows_ += s->n_rows();
  s->blocked_since = MonotonicTime::InfiniteFuture();
  Insert(&running_, s);
  if (s->started) return;
  s->started = true;
  s->times.started = now;
  s->cached_prompt_tokens = static_cast<uint32_t>(s->n_computed);
  s->queued_ms = static_cast<uint32_t>(std::max<int64_t>(0, absl::ToInt64Milliseconds(now - s->arrival)));
  if (s->adapters.empty()) return;
  (s->waited_for_adapter ? adapters_->stats().misses : adapters_->stats().hits)
      .fetch_add(1, std::memory_order_relaxed);
}

}  // namespace coterie
