#include "router/worker_table.h"

#include <fnmatch.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace coterie {
namespace {

uint64_t HashOfId(std::string_view id) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : id) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return hash;
}

}  // namespace

WorkerTable::Row WorkerTable::Add(std::string id) {
  const auto free =
      std::find_if(rows_.begin(), rows_.end(), [](const WorkerRow& candidate) { return !candidate.used; });
  const auto row = static_cast<Row>(free - rows_.begin());
  if (free == rows_.end()) {
    rows_.emplace_back();
    details_.emplace_back();
  }
  rows_[row].used = true;
  rows_[row].id_hash = HashOfId(id);
  details_[row].id = std::move(id);
  return row;
}

void WorkerTable::Remove(Row row) {
  COTERIE_CHECK(rows_[row].used) << "row " << row << " of the workers' table is nobody's";
  SetServes(row, {});
  ForgetAdapters(row);
  ForgetPrefixes(row, std::numeric_limits<size_t>::max());
  rows_[row] = WorkerRow();
  details_[row] = Details();
}

void WorkerTable::SetTraits(Row row, const WorkerTraits& traits) {
  WorkerRow& r = rows_[row];
  r.base = traits.base;
  r.id_hash = HashOfId(traits.id);
  r.max_running = traits.max_running;
  r.max_sequence_tokens = traits.max_sequence_tokens;
  r.kv_block_tokens = traits.kv_block_tokens;
  r.kv_blocks_total = traits.kv_blocks;
  r.adapter_slots = traits.adapter_slots;
  r.max_mixture_members = traits.max_mixture_members;
  r.max_gangs = traits.max_gangs;
  r.takes_constraints = traits.takes_constraints;
  r.gates = traits.gates;
  details_[row].id = traits.id;
  details_[row].numerics_class = traits.numerics_class;
  details_[row].batch_invariant = traits.batch_invariant;
  SetServes(row, traits.serves);
}

void WorkerTable::SetServes(Row row, const std::vector<std::string>& patterns) {
  uint32_t& number = rows_[row].serves;
  if (number != 0) --serves_[number - 1].n_rows;
  number = 0;
  if (patterns.empty()) return;
  size_t i = 0;
  while (i < serves_.size() && (serves_[i].n_rows == 0 || serves_[i].patterns != patterns)) ++i;
  if (i == serves_.size()) {
    i = static_cast<size_t>(
        std::find_if(serves_.begin(), serves_.end(), [](const auto& list) { return list.n_rows == 0; }) -
        serves_.begin());
    if (i == serves_.size()) serves_.emplace_back();
    serves_[i].patterns = patterns;
  }
  ++serves_[i].n_rows;
  number = static_cast<uint32_t>(i + 1);
}

bool WorkerTable::Serves(uint32_t number, std::string_view expert) const {
  const std::vector<std::string>& patterns = serves_[number - 1].patterns;
  const std::string name(expert);
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

void WorkerTable::AddResident(Row row, const Digest& adapter) {
  Details& details = details_[row];
  DropComing(row, adapter);
  if (details.resident.insert(adapter).second) residents_.Insert(adapter, row);
  if (details.resident.size() > kMaxResident) {
    for (const Digest& digest : details.resident) residents_.Erase(digest, row);
    details.resident.clear();
  }
  rows_[row].n_resident = static_cast<uint32_t>(details.resident.size());
}

void WorkerTable::RemoveResident(Row row, const Digest& adapter) {
  if (details_[row].resident.erase(adapter) > 0) residents_.Erase(adapter, row);
  rows_[row].n_resident = static_cast<uint32_t>(details_[row].resident.size());
}

void WorkerTable::AddPrefix(Row row, PrefixKey key) {
  absl::flat_hash_set<PrefixKey>& prefixes = details_[row].prefixes;
  const size_t limit = std::clamp<size_t>(rows_[row].kv_blocks_total, kLeastMaxPrefixes, kMaxPrefixes);
  if (n_prefixes_ >= max_prefixes_in_all_ || !prefixes.insert(key).second) return;
  prefixes_.Insert(key, row);
  ++n_prefixes_;
  if (prefixes.size() > limit) ForgetPrefixes(row, prefixes.size());
}

void WorkerTable::RemovePrefix(Row row, PrefixKey key) {
  if (details_[row].prefixes.erase(key) == 0) return;
  prefixes_.Erase(key, row);
  --n_prefixes_;
}

bool WorkerTable::Expect(Row row, const Digest& adapter, MonotonicTime now) {
  if (IsResident(row, adapter)) return false;
  std::vector<Coming>& coming = details_[row].coming;
  std::erase_if(coming, [now](const Coming& entry) { return entry.until <= now; });
  const bool noted = coming.size() < kMaxComing &&
                     std::none_of(coming.begin(), coming.end(),
                                  [&](const Coming& entry) { return entry.adapter == adapter; });
  if (noted) coming.push_back({adapter, now + kComingFor});
  rows_[row].n_coming = static_cast<uint32_t>(coming.size());
  return noted;
}

bool WorkerTable::IsComing(Row row, const Digest& adapter, MonotonicTime now) const {
  if (rows_[row].n_coming == 0) return false;
  const std::vector<Coming>& coming = details_[row].coming;
  return std::any_of(coming.begin(), coming.end(),
                     [&](const Coming& entry) { return entry.until > now && entry.adapter == adapter; });
}

void WorkerTable::DropComing(Row row, const Digest& adapter) {
  if (rows_[row].n_coming == 0) return;
  std::vector<Coming>& coming = details_[row].coming;
  std::erase_if(coming, [&](const Coming& entry) { return entry.adapter == adapter; });
  rows_[row].n_coming = static_cast<uint32_t>(coming.size());
}

void WorkerTable::ForgetAdapters(Row row) {
  Details& details = details_[row];
  for (const Digest& digest : details.resident) residents_.Erase(digest, row);
  details.resident.clear();
  details.coming.clear();
  rows_[row].n_resident = rows_[row].n_coming = 0;
}

bool WorkerTable::ForgetPrefixes(Row row, size_t n) {
  absl::flat_hash_set<PrefixKey>& prefixes = details_[row].prefixes;
  for (auto it = prefixes.begin(); it != prefixes.end() && n > 0; --n, --n_prefixes_) {
    prefixes_.Erase(*it, row);
    prefixes.erase(it++);
  }
  if (!prefixes.empty()) return false;
  prefixes = {};  // with its memory
  return true;
}

void WorkerTable::CountWarm(std::span<const PrefixKey> keys, std::vector<uint32_t>* blocks) const {
  blocks->assign(rows_.size(), 0);
  if (keys.empty() || rows_.empty()) return;
  // Rows whose every block so far is warm; those that drop out have their count.
  std::vector<uint64_t> warm((rows_.size() + 63) / 64, ~uint64_t{0}), still(warm.size());
  const auto count = [&](const std::vector<uint64_t>& words, size_t w, uint64_t without, uint32_t n) {
    for (uint64_t left = words[w] & ~without; left != 0; left &= left - 1) {
      const size_t row = w * 64 + static_cast<size_t>(std::countr_zero(left));
      if (row < blocks->size()) (*blocks)[row] = n;
    }
  };
  for (size_t i = 0; i < keys.size(); ++i) {
    const router_internal::RowSet* holders = prefixes_.Find(keys[i]);
    still = warm;
    if (holders == nullptr) {
      std::fill(still.begin(), still.end(), 0);
    } else {
      holders->KeepOnly(still);
    }
    bool any = false;
    for (size_t w = 0; w < warm.size(); ++w) {
      if (i > 0) count(warm, w, still[w], static_cast<uint32_t>(i));
      any |= still[w] != 0;
    }
    warm.swap(still);
    if (!any) return;
  }
  for (size_t w = 0; w < warm.size(); ++w) count(warm, w, 0, static_cast<uint32_t>(keys.size()));
}

uint32_t WorkerTable::SlotsTaken(Row row, MonotonicTime now) const {
  const WorkerRow& r = rows_[row];
  const uint32_t n_there = std::max(r.adapters_resident, r.n_resident);
  if (r.n_coming == 0) return n_there;
  const std::vector<Coming>& coming = details_[row].coming;
  return n_there +
         static_cast<uint32_t>(std::count_if(coming.begin(), coming.end(),
                                             [now](const Coming& entry) { return entry.until > now; }));
}

}  // namespace coterie
