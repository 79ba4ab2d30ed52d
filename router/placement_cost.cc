#include "router/placement_cost.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "common/prefix_key.h"

namespace coterie::router_internal {
namespace {

double Positive(double rate) { return std::isfinite(rate) && rate > 0 ? rate : 1.0; }

uint32_t BlocksFor(uint64_t n_tokens, uint32_t block_tokens) {
  block_tokens = std::max<uint32_t>(1, block_tokens);
  return static_cast<uint32_t>(
      std::min<uint64_t>((n_tokens + block_tokens - 1) / block_tokens, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

std::string SecondsInWords(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f s", seconds);
  return text;
}

double CostOf(const PlacementOptions& options, const PlacementRequest& request, const WorkerView& worker,
              std::string* words) {
  const double answer_seconds = options.mean_answer_tokens / Positive(worker.decode_tokens_per_second);
  const double max_running = std::max<uint32_t>(worker.max_running, 1);

  // Sequences that must end before this one starts: those waiting, one when every row is taken, and as many
  // as free the blocks the prompt lacks. Ends come every answer_seconds, whatever the batch: the rate is of
  // all together.
  double ahead = worker.waiting + std::max(0.0, worker.running + 1.0 - max_running);
  const uint32_t n_blocks = BlocksFor(request.n_prompt_tokens, worker.kv_block_tokens);
  if (n_blocks > worker.kv_blocks_free && worker.running > 0) {
    const double blocks_per_sequence =
        std::max(1.0, 1.0 * worker.kv_blocks_total - worker.kv_blocks_free) / worker.running;
    ahead =
        std::max(ahead, worker.waiting + std::ceil((n_blocks - worker.kv_blocks_free) / blocks_per_sequence));
  }
  const double queue = ahead * answer_seconds;
  const double contention = options.contention * answer_seconds * std::min(1.0, worker.running / max_running);

  double load = 0;
  size_t n_cold = 0, n_loading = 0;
  uint32_t slots_taken = worker.adapter_slots_taken;
  for (const PlacementRequest::Adapter& adapter : request.adapters) {
    if (worker.resident.contains(adapter.digest)) continue;
    const double seconds =
        options.load_latency_seconds + static_cast<double>(adapter.n_bytes) / options.load_bytes_per_second;
    if (worker.loading.contains(adapter.digest)) {
      load += seconds / 2;  // somewhere on its way
      ++n_loading;
      continue;
    }
    load += seconds;
    if (slots_taken >= worker.adapter_slots_total) load += options.eviction_seconds;
    ++slots_taken;
    ++n_cold;
  }

  // The last token of a prompt is always computed: its logits are wanted.
  const uint64_t n_warm = std::min<uint64_t>(worker.warm_blocks * uint64_t{kPrefixBlockTokens},
                                             request.n_prompt_tokens > 0 ? request.n_prompt_tokens - 1 : 0);
  const double prefill =
      static_cast<double>(request.n_prompt_tokens - n_warm) / Positive(worker.prefill_tokens_per_second);

  *words = request.adapters.empty() ? "base"
           : n_cold > 0             ? absl::StrCat(n_cold, n_cold == 1 ? " adapter" : " adapters", " to load")
           : n_loading > 0          ? "adapter on its way"
                                    : "adapter resident";
  absl::StrAppend(words, ", ", worker.running, " running, ", worker.waiting, " waiting");
  if (n_warm > 0)
    absl::StrAppend(words, ", ", n_warm, " of ", request.n_prompt_tokens, " prompt tokens warm");
  const double cost = queue + contention + load + prefill;
  absl::StrAppend(words, ", cost ", SecondsInWords(cost));
  return cost;
}

}  // namespace coterie::router_internal
