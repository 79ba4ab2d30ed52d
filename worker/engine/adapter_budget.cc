#include "worker/engine/adapter_budget.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "common/check.h"

namespace coterie {
namespace {

// Sizes remembered of adapters that are not here any more: about 3 MB.
constexpr size_t kMaxSizes = 65536;

// Calls `f` for each adapter once, however often a sequence names it.
template <class F>
void ForEachDistinct(std::span<AdapterEntry* const> entries, F f) {
  for (size_t i = 0; i < entries.size(); ++i) {
    if (std::find(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(i), entries[i]) ==
        entries.begin() + static_cast<ptrdiff_t>(i)) {
      f(entries[i]);
    }
  }
}

}  // namespace

size_t AdapterBudget::SizeOf(const AdapterEntry& entry) const {
  return entry.bytes > 0 ? entry.bytes : largest_;
}

Status AdapterBudget::TooLarge(const Digest& digest, size_t bytes, size_t max_bytes) {
  return absl::ResourceExhaustedError(absl::StrCat(
      "adapter ", digest.Short(), " takes ", bytes, " bytes packed; the worker keeps at most ", max_bytes,
      ": publish it with a lower rank, or start the worker with a larger --adapter-bytes"));
}

Status AdapterBudget::TooLarge(std::span<AdapterEntry* const> entries, size_t bytes) const {
  for (const AdapterEntry* entry : entries) {
    if (entry->bytes > max_bytes_) return TooLarge(entry->digest, entry->bytes, max_bytes_);
  }
  std::vector<std::string> each;
  ForEachDistinct(entries, [&](const AdapterEntry* entry) {
    if (entry->bytes > 0) each.push_back(absl::StrCat(entry->digest.Short(), " (", entry->bytes, " bytes)"));
  });
  return absl::ResourceExhaustedError(
      absl::StrCat("the sequence's adapters ", absl::StrJoin(each, " and "), " take ", bytes,
                   " bytes packed together; the worker keeps at most ", max_bytes_,
                   ": combine fewer or smaller experts, or start the worker with a larger --adapter-bytes"));
}

AdapterBudget::Answer AdapterBudget::Claim(std::span<AdapterEntry* const> entries, int priority,
                                           AdapterClaim* claim, Status* reason) {
  size_t own_bytes = 0;     // of all its adapters
  size_t known_bytes = 0;   // of those that were loaded before
  size_t own_promised = 0;  // of those that somebody was promised already
  bool wants_load = false;
  int n_unknown = 0;
  int n_unknown_promised = 0;
  ForEachDistinct(entries, [&](const AdapterEntry* entry) {
    own_bytes += SizeOf(*entry);
    known_bytes += entry->bytes;
    n_unknown += entry->bytes == 0 ? 1 : 0;
    wants_load |= entry->state == AdapterEntry::State::kAbsent;
    if (!entry->reserved()) return;
    own_promised += entry->counted_bytes;
    n_unknown_promised += entry->bytes == 0 ? 1 : 0;
  });
  if (known_bytes > max_bytes_) {
    *reason = TooLarge(entries, known_bytes);
    return Answer::kNever;
  }
  if (wants_load && n_loading_ >= std::max(1, n_slots_ - n_pinned_)) return Answer::kNotNow;
  // A guess of more than there is must not keep out what may fit after all: it gets everything.
  if (reserved_bytes_ - own_promised + std::min(own_bytes, max_bytes_) > max_bytes_) return Answer::kNotNow;
  // Nothing to guess from: one sequence goes first.
  if (largest_ == 0 && n_unknown > 0 && n_reserved_unknown_ > n_unknown_promised) return Answer::kNotNow;
  ForEachDistinct(entries, [&](AdapterEntry* entry) {
    if (!entry->reserved()) Reserve(entry);
    if (entry->claims++ == 0) claimed_.push_back(entry);
  });
  lowest_claim_ = std::min(lowest_claim_, priority);
  claim->epoch = epoch_;
  return Answer::kYes;
}

void AdapterBudget::Release(std::span<AdapterEntry* const> entries, AdapterClaim* claim) {
  const bool held = Holds(*claim);
  claim->epoch = 0;
  if (!held) return;
  ForEachDistinct(entries, [&](AdapterEntry* entry) {
    if (--entry->claims > 0) return;
    auto place = std::find(claimed_.begin(), claimed_.end(), entry);
    COTERIE_CHECK(place != claimed_.end()) << "adapter " << entry->digest.Short();
    *place = claimed_.back();
    claimed_.pop_back();
    if (!entry->reserved()) Unreserve(entry);
  });
}

void AdapterBudget::Pin(std::span<AdapterEntry* const> entries, AdapterClaim* claim) {
  COTERIE_CHECK(Holds(*claim)) << "adapters are pinned in exchange for a claim";
  ForEachDistinct(entries, [&](AdapterEntry* entry) {
    if (entry->pins++ > 0) return;
    ++n_pinned_;
    EntryList::Unlink(entry, &AdapterEntry::in_slot);
  });
  COTERIE_CHECK_LE(n_pinned_, n_slots_);
  Release(entries, claim);
}

void AdapterBudget::Unpin(std::span<AdapterEntry* const> entries) {
  ForEachDistinct(entries, [&](AdapterEntry* entry) {
    COTERIE_CHECK(entry->pins > 0) << "adapter " << entry->digest.Short();
    if (--entry->pins > 0) return;
    --n_pinned_;
    idle_in_slots_.PushBack(entry);
    if (!entry->reserved()) Unreserve(entry);
  });
}

bool AdapterBudget::HasSlots(std::span<AdapterEntry* const> entries) const {
  int n = n_pinned_;
  ForEachDistinct(entries, [&](const AdapterEntry* entry) { n += entry->pins == 0 ? 1 : 0; });
  return n <= n_slots_;
}

void AdapterBudget::WithdrawFrom(int priority, AdapterClaim* claim) {
  if (claim->asked_for_order || lowest_claim_ >= priority) return;
  claim->asked_for_order = true;
  withdraw_ = true;
}

void AdapterBudget::BeginRound() {
  if (!withdraw_) return;
  withdraw_ = false;
  ++epoch_;
  lowest_claim_ = std::numeric_limits<int>::max();
  for (AdapterEntry* entry : claimed_) {
    entry->claims = 0;
    if (!entry->reserved()) Unreserve(entry);
  }
  claimed_.clear();
}

void AdapterBudget::Reserve(AdapterEntry* entry) {
  Unfile(entry);
  entry->counted_bytes = SizeOf(*entry);
  reserved_bytes_ += entry->counted_bytes;
  n_reserved_unknown_ += entry->bytes == 0 ? 1 : 0;
}

void AdapterBudget::Unreserve(AdapterEntry* entry) {
  reserved_bytes_ -= entry->counted_bytes;
  n_reserved_unknown_ -= entry->bytes == 0 ? 1 : 0;
  File(entry);
}

void AdapterBudget::File(AdapterEntry* entry) {
  if (entry->state != AdapterEntry::State::kInMemory || entry->reserved()) return;
  Unfile(entry);
  if (entry->refs > 0) {
    named_.PushBack(entry);
  } else {
    unnamed_.PushBack(entry);
    unnamed_bytes_ += entry->bytes;
  }
}

void AdapterBudget::Unfile(AdapterEntry* entry) {
  if (IsUnnamed(*entry)) unnamed_bytes_ -= entry->bytes;
  EntryList::Unlink(entry, &AdapterEntry::in_memory);
}

void AdapterBudget::AddRef(AdapterEntry* entry) {
  if (entry->bytes == 0) {
    if (auto known = sizes_.find(entry->digest); known != sizes_.end()) entry->bytes = known->second;
  }
  if (++entry->refs == 1) File(entry);
}

void AdapterBudget::DropRef(AdapterEntry* entry) {
  COTERIE_CHECK(entry->refs > 0) << "adapter " << entry->digest.Short();
  if (--entry->refs == 0) File(entry);
}

bool AdapterBudget::HasRoomForHint(const AdapterEntry& entry) const {
  if (n_loading_ >= std::max(1, n_slots_ - n_pinned_)) return false;
  if (entry.bytes == 0 && largest_ == 0 && n_loading_ > 0) return false;
  return bytes_in_memory_ - unnamed_bytes_ + loading_bytes_ + SizeOf(entry) <= max_bytes_;
}

void AdapterBudget::LoadStarted(AdapterEntry* entry) {
  ++n_loading_;
  entry->loading_bytes = SizeOf(*entry);
  loading_bytes_ += entry->loading_bytes;
}

void AdapterBudget::LoadFailed(AdapterEntry* entry, size_t bytes) {
  --n_loading_;
  loading_bytes_ -= entry->loading_bytes;
  if (bytes > 0) Remember(entry->digest, bytes);
}

void AdapterBudget::Remember(const Digest& digest, size_t bytes) {
  if (sizes_.size() >= kMaxSizes) sizes_.clear();
  sizes_[digest] = bytes;
}

void AdapterBudget::LoadFinished(AdapterEntry* entry, size_t bytes) {
  --n_loading_;
  loading_bytes_ -= entry->loading_bytes;
  if (entry->reserved()) {
    n_reserved_unknown_ -= entry->bytes == 0 ? 1 : 0;
    reserved_bytes_ += bytes;
    reserved_bytes_ -= entry->counted_bytes;
    entry->counted_bytes = bytes;
  }
  entry->bytes = bytes;
  largest_ = std::max(largest_, bytes);
  Remember(entry->digest, bytes);
  bytes_in_memory_ += bytes;
  ++n_in_memory_;
  if (reserved_bytes_ > max_bytes_) withdraw_ = true;
  File(entry);
}

void AdapterBudget::SlotTaken(AdapterEntry* entry) {
  if (entry->pins == 0) idle_in_slots_.PushBack(entry);
}

void AdapterBudget::SlotLeft(AdapterEntry* entry) { EntryList::Unlink(entry, &AdapterEntry::in_slot); }

AdapterEntry* AdapterBudget::Victim() const {
  if (bytes_in_memory_ + loading_bytes_ <= max_bytes_) return nullptr;
  return unnamed_.front() != nullptr ? unnamed_.front() : named_.front();
}

void AdapterBudget::Evicted(AdapterEntry* entry) {
  Unfile(entry);
  bytes_in_memory_ -= entry->bytes;
  --n_in_memory_;
}

}  // namespace coterie
