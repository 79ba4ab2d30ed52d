#include "worker/engine/adapter_store.h"

#include <algorithm>
#include <utility>

#include "common/adapter_failure.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/hidden_paths.h"

namespace coterie {

StatusOr<std::unique_ptr<AdapterStore>> AdapterStore::Create(const AdapterStoreOptions& options,
                                                             LanguageModel* model, Resolver resolver,
                                                             std::function<void()> wake) {
  if (options.n_slots < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("adapter slots: ", options.n_slots, "; at least 1 is needed"));
  }
  if (options.max_bytes < 1)
    return absl::InvalidArgumentError("adapter memory: 0 bytes; at least 1 is needed");
  if (options.n_loader_threads < 1 || options.n_loader_threads > 16) {
    return absl::InvalidArgumentError(
        absl::StrCat("adapter loader threads: ", options.n_loader_threads, "; must be 1 to 16"));
  }
  return std::unique_ptr<AdapterStore>(
      new AdapterStore(options, model, std::move(resolver), std::move(wake)));
}

AdapterStore::AdapterStore(const AdapterStoreOptions& options, LanguageModel* model, Resolver resolver,
                           std::function<void()> wake)
    : options_(options),
      model_(model),
      resolver_(std::move(resolver)),
      wake_(std::move(wake)),
      budget_(options.n_slots, options.max_bytes) {
  for (int slot = options_.n_slots; slot-- > 0;) free_slots_.push_back(slot);
  for (int i = 0; i < options_.n_loader_threads; ++i) loaders_.emplace_back([this] { LoaderThread(); });
}

AdapterStore::~AdapterStore() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    work_.SignalAll();
  }
  for (std::thread& loader : loaders_) loader.join();
}

AdapterEntry* AdapterStore::Ref(const Digest& digest) {
  std::unique_ptr<AdapterEntry>& entry = entries_[digest];
  if (entry == nullptr) {
    entry = std::make_unique<AdapterEntry>();
    entry->digest = digest;
  }
  budget_.AddRef(entry.get());
  return entry.get();
}

void AdapterStore::Unref(AdapterEntry* entry) {
  budget_.DropRef(entry);
  Forget(entry);
}

void AdapterStore::Forget(AdapterEntry* entry) {
  if (entry->refs > 0) return;
  if (entry->state == AdapterEntry::State::kAbsent || entry->state == AdapterEntry::State::kFailed) {
    entries_.erase(Digest(entry->digest));
  }
}

AdapterStore::State AdapterStore::Prepare(std::span<AdapterEntry* const> entries, int priority,
                                          bool may_claim, AdapterClaim* claim, Status* error) {
  for (const AdapterEntry* entry : entries) {
    if (entry->state != AdapterEntry::State::kFailed) continue;
    *error = entry->error;
    return State::kFailed;
  }
  if (!budget_.Holds(*claim)) {
    if (!may_claim) return State::kNoMemory;
    switch (budget_.Claim(entries, priority, claim, error)) {
      case AdapterBudget::Answer::kNever: {
        // Another worker may have more memory.
        const AdapterEntry* largest = *std::max_element(
            entries.begin(), entries.end(),
            [](const AdapterEntry* a, const AdapterEntry* b) { return a->bytes < b->bytes; });
        *error = MarkAdapterFailure(std::move(*error), largest->digest);
        return State::kFailed;
      }
      case AdapterBudget::Answer::kNotNow:
        return State::kNoMemory;
      case AdapterBudget::Answer::kYes:
        break;
    }
  }
  bool ready = true;
  for (AdapterEntry* entry : entries) {
    if (entry->state == AdapterEntry::State::kAbsent) StartLoad(entry);
    ready &= entry->state == AdapterEntry::State::kInMemory;
  }
  if (!ready) return State::kLoading;
  return budget_.HasSlots(entries) ? State::kReady : State::kNoSlots;
}

void AdapterStore::Pin(std::span<AdapterEntry* const> entries, AdapterClaim* claim) {
  budget_.Pin(entries, claim);  // first: none of them makes room for another
  for (AdapterEntry* entry : entries) {
    if (entry->slot >= 0) continue;
    if (free_slots_.empty()) {
      AdapterEntry* victim = budget_.SlotVictim();  // evicted from its slot; it stays in memory
      COTERIE_CHECK(victim != nullptr) << "every slot is pinned";
      LeaveSlot(victim);
    }
    TakeSlot(entry);
    // Idle ones give their memory, too, where the device's is not enough, or lies in pieces.
    while (FailedUpload(*entry) && budget_.SlotVictim() != nullptr) {
      LeaveSlot(budget_.SlotVictim());
      AdapterSlots& slots = model_->adapter_slots();
      slots.Clear(entry->slot);
      slots.Fill(entry->slot, entry->loaded->packed);
    }
  }
}

void AdapterStore::Unpin(std::span<AdapterEntry* const> entries) {
  budget_.Unpin(entries);
  for (AdapterEntry* entry : entries) {
    if (entry->pins == 0 && FailedUpload(*entry)) LeaveSlot(entry);  // the next one tries anew
  }
}

bool AdapterStore::FailedUpload(const AdapterEntry& entry) const {
  return entry.slot >= 0 && !model_->adapter_slots().Error(entry.slot).ok();
}

Status AdapterStore::UploadError(std::span<AdapterEntry* const> entries) const {
  for (const AdapterEntry* entry : entries) {
    if (!FailedUpload(*entry)) continue;
    Status error =
        Annotate(model_->adapter_slots().Error(entry->slot), absl::StrCat("adapter ", entry->digest.Short()));
    return MarkAdapterFailure(std::move(error), entry->digest);  // another worker may have more memory
  }
  return absl::OkStatus();
}

bool AdapterStore::Uploaded(std::span<AdapterEntry* const> entries) const {
  return std::all_of(entries.begin(), entries.end(), [this](const AdapterEntry* entry) {
    return model_->adapter_slots().Ready(entry->slot);
  });
}

void AdapterStore::Prefetch(const Digest& digest) {
  AdapterEntry* entry = Ref(digest);
  // A hint is dropped when following it would delay somebody who is here.
  if (entry->state == AdapterEntry::State::kAbsent && budget_.HasRoomForHint(*entry)) StartLoad(entry);
  Unref(entry);
}

void AdapterStore::TakeSlot(AdapterEntry* entry) {
  entry->slot = free_slots_.back();
  free_slots_.pop_back();
  model_->adapter_slots().Fill(entry->slot, entry->loaded->packed);
  budget_.SlotTaken(entry);
  stats_.resident.fetch_add(1, std::memory_order_relaxed);
  events_.push_back({entry->digest, true});
}

// The entry still holds the adapter, so that its memory is not freed here.
void AdapterStore::LeaveSlot(AdapterEntry* entry) {
  model_->adapter_slots().Clear(entry->slot);
  free_slots_.push_back(entry->slot);
  entry->slot = -1;
  budget_.SlotLeft(entry);
  stats_.resident.fetch_sub(1, std::memory_order_relaxed);
  events_.push_back({entry->digest, false});
}

void AdapterStore::StartLoad(AdapterEntry* entry) {
  entry->state = AdapterEntry::State::kLoading;
  budget_.LoadStarted(entry);
  ++n_loading_;
  to_start_.push_back({entry, entry->digest});
}

int AdapterStore::Poll(bool may_wait) {
  if (to_start_.empty() && to_free_.empty() && n_loading_ == 0) return 0;
  if (may_wait) {
    mutex_.Lock();
  } else if (!mutex_.TryLock()) {
    return 0;
  }
  const bool new_work = !to_start_.empty() || !to_free_.empty();
  jobs_.insert(jobs_.end(), to_start_.begin(), to_start_.end());
  std::move(to_free_.begin(), to_free_.end(), std::back_inserter(trash_));
  done_scratch_.swap(done_);
  mutex_.Unlock();
  to_start_.clear();
  to_free_.clear();
  if (new_work) work_.SignalAll();
  for (Done& done : done_scratch_) Finish(std::move(done));
  const int n_finished = static_cast<int>(done_scratch_.size());
  done_scratch_.clear();
  return n_finished;
}

void AdapterStore::Finish(Done done) {
  AdapterEntry* entry = done.entry;
  --n_loading_;
  if (!done.result.ok()) {
    entry->state = AdapterEntry::State::kFailed;
    entry->error = done.result.status();
    budget_.LoadFailed(entry, done.bytes);
    stats_.failures.fetch_add(1, std::memory_order_relaxed);
    Forget(entry);
    return;
  }
  entry->loaded = std::move(done.result).value();
  entry->state = AdapterEntry::State::kInMemory;
  budget_.LoadFinished(entry, entry->loaded->bytes);
  // A free slot, never somebody else's: that waits until a sequence really starts.
  if (!free_slots_.empty()) TakeSlot(entry);
  if (FailedUpload(*entry)) LeaveSlot(entry);  // whoever wants it tries anew
  PublishSizes();
}

void AdapterStore::EvictOverBudget() {
  while (AdapterEntry* victim = budget_.Victim()) {
    if (victim->slot >= 0) LeaveSlot(victim);
    budget_.Evicted(victim);
    to_free_.push_back(std::move(victim->loaded));
    victim->state = AdapterEntry::State::kAbsent;
    stats_.evictions.fetch_add(1, std::memory_order_relaxed);
    Forget(victim);
  }
  PublishSizes();
}

void AdapterStore::PublishSizes() {
  stats_.bytes.store(budget_.bytes_in_memory(), std::memory_order_relaxed);
  stats_.in_memory.store(budget_.n_in_memory(), std::memory_order_relaxed);
}

void AdapterStore::TakeEvents(std::vector<ResidencyEvent>* events) {
  events->insert(events->end(), events_.begin(), events_.end());
  events_.clear();
}

StatusOr<std::unique_ptr<LoadedAdapter>> AdapterStore::Load(const Digest& digest, size_t* bytes) {
  const std::string what = absl::StrCat("adapter ", digest.Short());
  StatusOr<std::filesystem::path> folder = resolver_(digest);
  if (!folder.ok()) return Annotate(folder.status(), what);
  StatusOr<std::unique_ptr<LoadedAdapter>> loaded = model_->LoadAdapter(*folder);
  // The words reach clients, whom this machine's paths tell nothing.
  if (!loaded.ok()) return Annotate(WithoutPaths(loaded.status(), *folder, "its folder"), what);
  if ((*loaded)->digest != digest) {
    return absl::DataLossError(absl::StrCat(what, ": its files in the expert store have the digest ",
                                            (*loaded)->digest.Short(), "; publish the expert again"));
  }
  *bytes = (*loaded)->bytes;
  if (*bytes > options_.max_bytes) return AdapterBudget::TooLarge(digest, *bytes, options_.max_bytes);
  return loaded;
}

void AdapterStore::LoaderThread() {
  for (;;) {
    Job job;
    std::vector<std::unique_ptr<LoadedAdapter>> trash;
    {
      MutexLock lock(&mutex_);
      while (!stopping_ && jobs_.empty() && trash_.empty()) work_.Wait(&mutex_);
      if (stopping_) return;
      trash.swap(trash_);
      if (!jobs_.empty()) {
        job = jobs_.front();
        jobs_.pop_front();
      }
    }
    trash.clear();
    if (job.entry == nullptr) continue;
    const MonotonicTime begin = MonotonicNow();
    Done done{job.entry};
    done.result = Load(job.digest, &done.bytes);
    if (!done.result.ok()) done.result = MarkAdapterFailure(done.result.status(), job.digest);
    const absl::Duration time = MonotonicNow() - begin;
    stats_.load_seconds.Observe(absl::ToDoubleSeconds(time));
    std::function<void()> keep;
    if (done.result.ok()) {
      keep = std::move((*done.result)->keep);
      ((*done.result)->from_packed ? stats_.loads_from_packed : stats_.loads_from_peft)
          .fetch_add(1, std::memory_order_relaxed);
      stats_.loaded_bytes.fetch_add(done.bytes, std::memory_order_relaxed);
      stats_.load_nanos.fetch_add(static_cast<uint64_t>(absl::ToInt64Nanoseconds(time)),
                                  std::memory_order_relaxed);
    }
    {
      MutexLock lock(&mutex_);
      done_.push_back(std::move(done));
    }
    wake_();
    if (keep) keep();  // nobody waits for it
  }
}

}  // namespace coterie
