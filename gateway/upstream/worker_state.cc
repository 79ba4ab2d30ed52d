#include "gateway/upstream/worker_state.h"

#include <algorithm>
#include <span>
#include <utility>

namespace coterie::gateway {
namespace {

// Written with the board's lock held once, some tens of microseconds: a worker says all it has at its Hello.
constexpr size_t kChangesAtOnce = 512;

template <class Key, class Change>
void InParts(WorkerBoard* board, const std::vector<Key>& keys, Change change) {
  for (size_t begin = 0; begin < keys.size(); begin += kChangesAtOnce) {
    const auto part = std::span(keys).subspan(begin, std::min(kChangesAtOnce, keys.size() - begin));
    board->With([&](WorkerTable& table) {
      for (const Key& key : part) change(table, key);
    });
  }
}

}  // namespace

void WorkerStateFold::Identify(const WorkerIdentity& identity) {
  if (left_) return;
  if (std::exchange(incarnation_, identity.incarnation) != identity.incarnation) last_said_bytes_ = 0;
  kv_blocks_ = identity.kv_blocks;
  board_->With([&](WorkerTable& table) {
    WorkerTraits traits;
    traits.id = identity.worker_id.empty() ? id_ : identity.worker_id;
    traits.base = identity.base;
    traits.numerics_class = identity.numerics_class;
    traits.batch_invariant = identity.batch_invariant;
    traits.max_running = std::max<uint32_t>(1, identity.max_running);
    traits.max_sequence_tokens = identity.max_sequence_tokens;
    if (identity.kv_block_tokens > 0) traits.kv_block_tokens = identity.kv_block_tokens;
    traits.kv_blocks = identity.kv_blocks;
    traits.adapter_slots = identity.adapter_slots;
    traits.max_mixture_members = identity.max_mixture_members;
    traits.max_gangs = identity.max_gangs;
    traits.takes_constraints = identity.takes_constraints;
    traits.gates = identity.gates;
    traits.serves = identity.serves;
    table.SetTraits(row_, traits);
  });
  all_places_ = identity.max_running + identity.max_waiting;
  WriteLevels();
}

void WorkerStateFold::Reset() {
  const uint64_t n_bytes = levels_.bytes_between_workers;
  levels_ = WorkerStateUpdate();
  levels_.bytes_between_workers = n_bytes;
  decode_rate_.Reset();
  prefill_rate_.Reset();
  load_rate_.Reset();
  answer_tokens_.Reset();
  if (left_) return;
  board_->With([&](WorkerTable& table) { table.ForgetAdapters(row_); });
  ForgetPrefixes();
  WriteLevels();
}

void WorkerStateFold::Apply(WorkerStateUpdate update) {
  const std::vector<Digest> resident_added = std::exchange(update.resident_added, {});
  const std::vector<Digest> resident_removed = std::exchange(update.resident_removed, {});
  const std::vector<uint64_t> prefixes_added = std::exchange(update.prefixes_added, {});
  const std::vector<uint64_t> prefixes_removed = std::exchange(update.prefixes_removed, {});
  const uint64_t n_bytes = levels_.bytes_between_workers;
  levels_ = std::move(update);
  levels_.bytes_between_workers = n_bytes + NewBytes(levels_.bytes_between_workers);
  if (levels_.running > 0) decode_rate_.Note(levels_.tokens_per_second);
  prefill_rate_.Note(levels_.prefill_tokens_per_second);
  load_rate_.Note(levels_.load_bytes_per_second);
  answer_tokens_.Note(levels_.answer_tokens);
  if (left_) return;
  WriteLevels();
  if (levels_.prefixes_reset) ForgetPrefixes();
  InParts(board_.get(), resident_removed,
          [this](WorkerTable& table, const Digest& digest) { table.RemoveResident(row_, digest); });
  InParts(board_.get(), resident_added,
          [this](WorkerTable& table, const Digest& digest) { table.AddResident(row_, digest); });
  InParts(board_.get(), prefixes_removed,
          [this](WorkerTable& table, PrefixKey key) { table.RemovePrefix(row_, key); });
  InParts(board_.get(), prefixes_added,
          [this](WorkerTable& table, PrefixKey key) { table.AddPrefix(row_, key); });
}

// Of what this incarnation counted, those that came since it last said so.
uint64_t WorkerStateFold::NewBytes(uint64_t said) {
  return said - std::min(said, std::exchange(last_said_bytes_, said));
}

void WorkerStateFold::WriteLevels() {
  board_->SetCapacity(row_, levels_.places == 0 ? all_places_ : std::min(levels_.places, all_places_));
  board_->With([&](WorkerTable& table) {
    WorkerRow& row = table.at(row_);
    row.draining = levels_.draining || levels_.device_lost;
    row.running = levels_.running;
    row.waiting = levels_.waiting;
    row.kv_blocks_free = kv_blocks_ - std::min(kv_blocks_, levels_.kv_blocks_used);
    row.adapters_resident = levels_.adapters_resident;
    row.decode_tokens_per_second = decode_rate_.value_or_start();
    row.prefill_tokens_per_second = prefill_rate_.value_or_start();
    row.load_bytes_per_second = load_rate_.value();
    row.answer_tokens = answer_tokens_.value();
  });
}

void WorkerStateFold::ForgetPrefixes() {
  while (!board_->With([&](WorkerTable& table) { return table.ForgetPrefixes(row_, kChangesAtOnce); })) {
  }
}

void WorkerStateFold::Stand(const WorkerStanding& standing) {
  if (left_) return;
  board_->With([&](WorkerTable& table) {
    WorkerRow& row = table.at(row_);
    row.alive_until = standing.alive_until;
    row.ejected_until = standing.ejected_until;
    row.refused = standing.refused;
    row.assigned = standing.assigned;
  });
}

void WorkerStateFold::Leave() {
  if (!std::exchange(left_, true)) board_->Remove(row_);
}

bool WorkerStateFold::Expect(const Digest& adapter, MonotonicTime now) {
  return !left_ && board_->With([&](WorkerTable& table) { return table.Expect(row_, adapter, now); });
}

bool WorkerStateFold::Holds(const Digest& adapter) const {
  return !left_ && board_->With([&](WorkerTable& table) { return table.IsResident(row_, adapter); });
}

}  // namespace coterie::gateway
