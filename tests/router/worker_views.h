#ifndef COTERIE_TESTS_ROUTER_WORKER_VIEWS_H_
#define COTERIE_TESTS_ROUTER_WORKER_VIEWS_H_

#include <span>

#include "router/worker_table.h"
#include "tests/router/placement_reference.h"

namespace coterie {

inline const MonotonicTime kPlacingTime = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

// But for the experts that the worker is for.
inline WorkerTraits TraitsOf(const reference::WorkerView& view) {
  WorkerTraits traits;
  traits.id = view.id;
  traits.base = view.base;
  traits.numerics_class = view.numerics_class;
  traits.max_running = view.max_running;
  traits.max_sequence_tokens = view.max_sequence_tokens;
  traits.kv_block_tokens = view.kv_block_tokens;
  traits.kv_blocks = view.kv_blocks_total;
  traits.adapter_slots = view.adapter_slots_total;
  traits.max_mixture_members = view.max_mixture_members;
  traits.takes_constraints = view.takes_constraints;
  return traits;
}

// A table of which a request with these prefix keys sees `views`, in their order, at kPlacingTime. The keys
// must differ from each other, and be at least as many as any view's warm blocks.
inline WorkerTable TableOf(std::span<const reference::WorkerView> views, std::span<const PrefixKey> keys) {
  WorkerTable table;
  for (const reference::WorkerView& view : views) {
    const WorkerTable::Row row = table.Add("not yet known");
    WorkerTraits traits = TraitsOf(view);
    traits.serves.assign(view.serves.begin(), view.serves.end());
    table.SetTraits(row, traits);
    WorkerRow& numbers = table.at(row);
    numbers.alive_until = view.alive ? MonotonicTime::InfiniteFuture() : kPlacingTime;
    numbers.ejected_until = view.ejected ? kPlacingTime + absl::Nanoseconds(1) : kPlacingTime;
    numbers.draining = view.draining;
    numbers.refused = view.refused;
    numbers.running = view.running;
    numbers.waiting = view.waiting;
    numbers.kv_blocks_free = view.kv_blocks_free;
    numbers.prefill_tokens_per_second = view.prefill_tokens_per_second;
    numbers.decode_tokens_per_second = view.decode_tokens_per_second;
    numbers.load_bytes_per_second = view.load_bytes_per_second;
    numbers.answer_tokens = view.answer_tokens;
    for (const Digest& digest : view.loading) (void)table.Expect(row, digest, kPlacingTime);
    for (const Digest& digest : view.resident) table.AddResident(row, digest);
    numbers.adapters_resident =
        view.adapter_slots_taken - std::min(view.adapter_slots_taken, numbers.n_coming);
    numbers.n_resident = 0;  // the views' sets hold the request's own adapters only
    for (size_t i = 0; i < view.warm_blocks; ++i) table.AddPrefix(row, keys[i]);
  }
  return table;
}

}  // namespace coterie

#endif  // COTERIE_TESTS_ROUTER_WORKER_VIEWS_H_
