#include "router/placement_cost.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/prefix_key.h"

namespace coterie::router_internal {
namespace {

double Positive(double rate) { return std::isfinite(rate) && rate > 0 ? rate : 1.0; }

double MeasuredOr(double measured, double assumed) {
  return std::isfinite(measured) && measured > 0 ? measured : assumed;
}

uint32_t BlocksFor(uint64_t n_tokens, uint32_t block_tokens) {
  block_tokens = std::max<uint32_t>(1, block_tokens);
  return static_cast<uint32_t>(
      std::min<uint64_t>((n_tokens + block_tokens - 1) / block_tokens, std::numeric_limits<uint32_t>::max()));
}

// Sequences that must end before this one starts: those waiting, one when every row is taken, and as many as
// free the blocks the prompt lacks.
double SequencesAhead(const PlacementRequest& request, const WorkerRow& worker) {
  const double max_running = std::max<uint32_t>(worker.max_running, 1);
  const double ahead = worker.queued() + std::max(0.0, worker.running + 1.0 * request.n_rows - max_running);
  const double n_blocks = 1.0 * request.n_rows * BlocksFor(request.n_prompt_tokens, worker.kv_block_tokens);
  if (n_blocks <= worker.kv_blocks_free || worker.running == 0) return ahead;
  const double blocks_per_sequence =
      std::max(1.0, 1.0 * worker.kv_blocks_total - worker.kv_blocks_free) / worker.running;
  return std::max(ahead,
                  worker.queued() + std::ceil((n_blocks - worker.kv_blocks_free) / blocks_per_sequence));
}

void AddLoads(const PlacementOptions& options, const PlacementLookup& lookup, WorkerTable::Row row,
              CostParts* parts) {
  const std::vector<PlacementRequest::Adapter>& adapters = lookup.request().adapters;
  const double bytes_per_second =
      MeasuredOr(lookup.at(row).load_bytes_per_second, options.load_bytes_per_second);
  for (size_t i = 0; i < adapters.size(); ++i) {
    if (lookup.IsResident(row, i)) continue;
    const double seconds =
        options.load_latency_seconds + static_cast<double>(adapters[i].n_bytes) / bytes_per_second;
    if (lookup.IsComing(row, i)) {
      parts->load += seconds / 2;  // somewhere on its way
      ++parts->n_coming;
      continue;
    }
    parts->load += seconds;
    const uint32_t slots_taken = lookup.workers().SlotsTaken(row, lookup.now()) + parts->n_cold;
    if (slots_taken >= lookup.at(row).adapter_slots) parts->load += options.eviction_seconds;
    ++parts->n_cold;
  }
}

}  // namespace

CostParts CostOf(const PlacementOptions& options, const PlacementLookup& lookup, WorkerTable::Row row) {
  const PlacementRequest& request = lookup.request();
  const WorkerRow& worker = lookup.at(row);
  CostParts parts;
  // Ends come every answer_seconds, whatever the batch: the rate is of all sequences together.
  const double answer_seconds = MeasuredOr(worker.answer_tokens, options.mean_answer_tokens) /
                                Positive(worker.decode_tokens_per_second);
  const double max_running = std::max<uint32_t>(worker.max_running, 1);
  parts.queue = SequencesAhead(request, worker) * answer_seconds;
  parts.contention = options.contention * answer_seconds * std::min(1.0, worker.running / max_running);
  AddLoads(options, lookup, row, &parts);
  // The last token of a prompt is always computed: its logits are wanted.
  parts.n_warm = std::min<uint64_t>(lookup.warm_blocks(row) * uint64_t{kPrefixBlockTokens},
                                    request.n_prompt_tokens > 0 ? request.n_prompt_tokens - 1 : 0);
  parts.prefill = request.n_rows * static_cast<double>(request.n_prompt_tokens - parts.n_warm) /
                  Positive(worker.prefill_tokens_per_second);
  return parts;
}

}  // namespace coterie::router_internal
