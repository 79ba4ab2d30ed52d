#include "worker/engine/adapter_store.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/adapter_failure.h"
#include "common/check.h"
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
      slots_(options.n_slots, nullptr) {
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
  ++entry->refs;
  return entry.get();
}

void AdapterStore::Unref(AdapterEntry* entry) {
  COTERIE_CHECK(entry->refs > 0) << "adapter " << entry->digest.Short();
  --entry->refs;
  Forget(entry);
}

void AdapterStore::Forget(AdapterEntry* entry) {
  if (entry->refs > 0) return;
  if (entry->state == AdapterEntry::State::kAbsent || entry->state == AdapterEntry::State::kFailed) {
    entries_.erase(Digest(entry->digest));
  }
}

AdapterStore::Pin AdapterStore::TryPin(std::span<AdapterEntry* const> entries, Status* error) {
  bool all_in_memory = true;
  bool all_coming = true;
  for (AdapterEntry* entry : entries) {
    entry->last_use = round_;
    if (entry->state == AdapterEntry::State::kFailed) {
      *error = entry->error;
      return Pin::kFailed;
    }
    if (entry->state == AdapterEntry::State::kInMemory) continue;
    all_in_memory = false;
    if (entry->state == AdapterEntry::State::kAbsent && MayStartLoad()) StartLoad(entry);
    all_coming &= entry->state != AdapterEntry::State::kAbsent;
  }
  if (!all_in_memory) return all_coming ? Pin::kLoading : Pin::kNoRoom;
  for (AdapterEntry* entry : entries) {
    if (entry->slot < 0 && !PutInSlot(entry, entries)) return Pin::kNoRoom;
  }
  for (AdapterEntry* entry : entries) {
    if (entry->pins++ == 0) ++n_pinned_;
  }
  return Pin::kPinned;
}

void AdapterStore::Want(std::span<AdapterEntry* const> entries) {
  for (AdapterEntry* entry : entries) {
    entry->last_use = round_;
    if (entry->state == AdapterEntry::State::kAbsent && MayStartLoad()) StartLoad(entry);
  }
}

void AdapterStore::Unpin(std::span<AdapterEntry* const> entries) {
  for (AdapterEntry* entry : entries) {
    COTERIE_CHECK(entry->pins > 0) << "adapter " << entry->digest.Short();
    entry->last_use = round_;
    if (--entry->pins == 0) --n_pinned_;
  }
  Shrink(nullptr);
}

// As many loads at a time as there are slots to fill, and always one: what waits further behind would only
// push out what is about to run. None while memory is over its bound, that is while everything in it is
// pinned.
bool AdapterStore::MayStartLoad() const {
  return n_loading_ < std::max(1, options_.n_slots - n_pinned_) && bytes_ <= options_.max_bytes;
}

void AdapterStore::Prefetch(const Digest& digest) {
  // A hint is dropped when following it would delay somebody who is here.
  if (!MayStartLoad()) return;
  AdapterEntry* entry = Ref(digest);
  if (entry->state == AdapterEntry::State::kAbsent) StartLoad(entry);
  entry->last_use = round_;
  Unref(entry);
}

bool AdapterStore::PutInSlot(AdapterEntry* entry, std::span<AdapterEntry* const> keep) {
  int chosen = -1;
  for (int i = 0; i < options_.n_slots && (chosen < 0 || slots_[chosen] != nullptr); ++i) {
    const AdapterEntry* occupant = slots_[i];
    const bool is_better =
        occupant == nullptr ||
        (occupant->pins == 0 && std::find(keep.begin(), keep.end(), occupant) == keep.end() &&
         (chosen < 0 || occupant->last_use < slots_[chosen]->last_use));
    if (is_better) chosen = i;
  }
  if (chosen < 0) return false;
  if (slots_[chosen] != nullptr) LeaveSlot(slots_[chosen]);
  slots_[chosen] = entry;
  entry->slot = chosen;
  stats_.resident.fetch_add(1, std::memory_order_relaxed);
  events_.push_back({entry->digest, true});
  return true;
}

void AdapterStore::LeaveSlot(AdapterEntry* entry) {
  slots_[entry->slot] = nullptr;
  entry->slot = -1;
  stats_.resident.fetch_sub(1, std::memory_order_relaxed);
  events_.push_back({entry->digest, false});
}

void AdapterStore::StartLoad(AdapterEntry* entry) {
  entry->state = AdapterEntry::State::kLoading;
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
    stats_.failures.fetch_add(1, std::memory_order_relaxed);
    Forget(entry);
    return;
  }
  entry->loaded = std::move(done.result).value();
  entry->state = AdapterEntry::State::kInMemory;
  bytes_ += entry->loaded->bytes;
  ++n_in_memory_;
  // A free slot, never somebody else's: that waits until a sequence really starts.
  if (std::find(slots_.begin(), slots_.end(), nullptr) != slots_.end()) PutInSlot(entry, {});
  Shrink(entry);
}

// Drops adapters nobody runs on until the bytes are within bounds: least recently wanted first, and among
// equals what no sequence waits for. `keep` (just loaded, somebody waits for it) stays even when everything
// else is pinned.
void AdapterStore::Shrink(const AdapterEntry* keep) {
  while (bytes_ > options_.max_bytes) {
    AdapterEntry* victim = nullptr;
    for (auto& [digest, entry] : entries_) {
      if (entry->state != AdapterEntry::State::kInMemory || entry->pins > 0 || entry.get() == keep) continue;
      if (victim == nullptr ||
          std::make_pair(entry->last_use, entry->refs) < std::make_pair(victim->last_use, victim->refs)) {
        victim = entry.get();
      }
    }
    if (victim == nullptr) break;
    if (victim->slot >= 0) LeaveSlot(victim);
    bytes_ -= victim->loaded->bytes;
    --n_in_memory_;
    to_free_.push_back(std::move(victim->loaded));
    victim->state = AdapterEntry::State::kAbsent;
    stats_.evictions.fetch_add(1, std::memory_order_relaxed);
    Forget(victim);
  }
  stats_.bytes.store(bytes_, std::memory_order_relaxed);
  stats_.in_memory.store(n_in_memory_, std::memory_order_relaxed);
}

void AdapterStore::TakeEvents(std::vector<ResidencyEvent>* events) {
  events->insert(events->end(), events_.begin(), events_.end());
  events_.clear();
}

StatusOr<std::unique_ptr<LoadedAdapter>> AdapterStore::Load(const Digest& digest) {
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
  if ((*loaded)->bytes > options_.max_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        what, " takes ", (*loaded)->bytes, " bytes packed; the worker keeps at most ", options_.max_bytes));
  }
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
    const absl::Time begin = absl::Now();
    Done done{job.entry, Load(job.digest)};
    if (!done.result.ok()) done.result = MarkAdapterFailure(done.result.status(), job.digest);
    stats_.load_seconds.Observe(absl::ToDoubleSeconds(absl::Now() - begin));
    {
      MutexLock lock(&mutex_);
      done_.push_back(std::move(done));
    }
    wake_();
  }
}

}  // namespace coterie
