#include "router/placement.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <tuple>

#include "common/random.h"

namespace coterie {
namespace {

constexpr size_t kMaxWorkersInMessage = 16;

double Positive(double rate) { return std::isfinite(rate) && rate > 0 ? rate : 1.0; }

std::string Seconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f s", seconds);
  return text;
}

bool Serves(const PlacementRequest& request, const WorkerView& worker) {
  return worker.serves.empty() || std::all_of(request.adapters.begin(), request.adapters.end(),
                                              [&](const PlacementRequest::Adapter& adapter) {
                                                return worker.serves.contains(adapter.name);
                                              });
}

// What a request is at home with: its experts, else its first prefix block, else nothing (the seed).
uint64_t HomeKey(const PlacementRequest& request) {
  if (request.adapters.empty()) return request.prefix_keys.empty() ? request.seed : request.prefix_keys[0];
  uint64_t key = 0;
  for (const PlacementRequest::Adapter& adapter : request.adapters) {
    uint64_t word;
    std::memcpy(&word, adapter.digest.bytes().data(), sizeof(word));
    key ^= Mix(word);  // in any order
  }
  return key;
}

uint64_t Affinity(uint64_t home_key, std::string_view worker_id) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : worker_id) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return Mix(Mix(home_key) ^ hash);
}

uint32_t BlocksFor(uint64_t n_tokens, uint32_t block_tokens) {
  return static_cast<uint32_t>(
      std::min<uint64_t>((n_tokens + block_tokens - 1) / block_tokens, std::numeric_limits<uint32_t>::max()));
}

Status CheckOption(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();  // NaN falls through
  return absl::InvalidArgumentError(
      absl::StrCat("placement option ", ToAbsl(name), " = ", value, " is outside ", low, "..", high));
}

Status NoneFit(std::span<const Placement::Ranked> unfit) {
  if (unfit.empty()) return absl::UnavailableError("no worker can take this request: none is known");
  std::string message = "no worker can take this request: ";
  for (size_t i = 0; i < std::min(unfit.size(), kMaxWorkersInMessage); ++i) {
    absl::StrAppend(&message, i == 0 ? "" : "; ", unfit[i].worker, " ", unfit[i].words);
  }
  if (unfit.size() > kMaxWorkersInMessage) {
    absl::StrAppend(&message, "; and ", unfit.size() - kMaxWorkersInMessage, " more");
  }
  return absl::UnavailableError(message);
}

}  // namespace

StatusOr<Placer> Placer::Create(const PlacementOptions& options) {
  RETURN_IF_ERROR(CheckOption("kv_block_tokens", options.kv_block_tokens, 1, 4096));
  RETURN_IF_ERROR(CheckOption("load_bytes_per_second", options.load_bytes_per_second, 1, 1e15));
  RETURN_IF_ERROR(CheckOption("load_latency_seconds", options.load_latency_seconds, 0, 3600));
  RETURN_IF_ERROR(CheckOption("eviction_seconds", options.eviction_seconds, 0, 3600));
  RETURN_IF_ERROR(CheckOption("mean_answer_tokens", options.mean_answer_tokens, 1, 1e9));
  RETURN_IF_ERROR(CheckOption("contention", options.contention, 0, 1e3));
  RETURN_IF_ERROR(CheckOption("stickiness_seconds", options.stickiness_seconds, 0, 3600));
  return Placer(options);
}

std::string Placer::WhyUnfit(const PlacementRequest& request, const WorkerView& worker) const {
  if (request.exclude.contains(worker.id)) return "just failed this request";
  if (!worker.alive) return "does not answer";
  if (worker.draining) return "is draining";
  if (worker.base != request.base) {
    return absl::StrCat("has base ", worker.base.Short(), ", the request needs ", request.base.Short());
  }
  if (options_.strict_serves && !Serves(request, worker)) return "does not serve this expert";
  if (request.adapters.size() > worker.adapter_slots_total) {
    return absl::StrCat("has ", worker.adapter_slots_total, " adapter slots, the request needs ",
                        request.adapters.size());
  }
  const uint32_t n_blocks =
      BlocksFor(uint64_t{request.n_prompt_tokens} + request.max_new_tokens, options_.kv_block_tokens);
  if (n_blocks > worker.kv_blocks_total) {
    return absl::StrCat("has ", worker.kv_blocks_total, " KV blocks, the request needs ", n_blocks);
  }
  return "";
}

double Placer::Cost(const PlacementRequest& request, const WorkerView& worker, std::string* words) const {
  const double answer_seconds = options_.mean_answer_tokens / Positive(worker.decode_tokens_per_second);
  const double max_running = std::max<uint32_t>(worker.max_running, 1);

  // Sequences that must end before this one starts: those waiting, one when every row is taken, and as many
  // as free the blocks the prompt lacks. Ends come every answer_seconds, whatever the batch: the rate is of
  // all together.
  double ahead = worker.waiting + std::max(0.0, worker.running + 1.0 - max_running);
  const uint32_t n_blocks = BlocksFor(request.n_prompt_tokens, options_.kv_block_tokens);
  if (n_blocks > worker.kv_blocks_free && worker.running > 0) {
    const double blocks_per_sequence =
        std::max(1.0, 1.0 * worker.kv_blocks_total - worker.kv_blocks_free) / worker.running;
    ahead =
        std::max(ahead, worker.waiting + std::ceil((n_blocks - worker.kv_blocks_free) / blocks_per_sequence));
  }
  const double queue = ahead * answer_seconds;
  const double contention =
      options_.contention * answer_seconds * std::min(1.0, worker.running / max_running);

  double load = 0;
  size_t n_cold = 0, n_loading = 0;
  size_t slots_taken = worker.resident.size() + worker.loading.size();
  for (const PlacementRequest::Adapter& adapter : request.adapters) {
    if (worker.resident.contains(adapter.digest)) continue;
    const double seconds =
        options_.load_latency_seconds + static_cast<double>(adapter.n_bytes) / options_.load_bytes_per_second;
    if (worker.loading.contains(adapter.digest)) {
      load += seconds / 2;  // somewhere on its way
      ++n_loading;
      continue;
    }
    load += seconds;
    if (slots_taken >= worker.adapter_slots_total) load += options_.eviction_seconds;
    ++slots_taken;
    ++n_cold;
  }

  size_t n_warm_blocks = 0;
  while (n_warm_blocks < request.prefix_keys.size() &&
         worker.warm.contains(request.prefix_keys[n_warm_blocks])) {
    ++n_warm_blocks;
  }
  // The last token of a prompt is always computed: its logits are wanted.
  const uint64_t n_warm = std::min<uint64_t>(n_warm_blocks * options_.kv_block_tokens,
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
  absl::StrAppend(words, ", cost ", Seconds(cost));
  return cost;
}

StatusOr<Placement> Placer::Place(const PlacementRequest& request,
                                  std::span<const WorkerView> workers) const {
  struct Candidate {
    int tier;  // 0 is best
    double cost;
    uint64_t affinity;
    size_t worker;
    Placement::Ranked ranked;
  };
  std::vector<Candidate> fit;
  std::vector<Placement::Ranked> unfit;
  const uint64_t home_key = HomeKey(request);
  for (size_t i = 0; i < workers.size(); ++i) {
    const WorkerView& worker = workers[i];
    Placement::Ranked ranked{.worker = worker.id, .words = WhyUnfit(request, worker)};
    if (!ranked.words.empty()) {
      unfit.push_back(std::move(ranked));
      continue;
    }
    ranked.fit = true;
    ranked.cost_seconds = Cost(request, worker, &ranked.words);
    // The class outweighs the share: an answer that goes on unchanged is worth a cold load.
    int tier = 0;
    if (!request.numerics_class.empty() && worker.numerics_class != request.numerics_class) {
      tier += 2;
      absl::StrAppend(&ranked.words, ", numerics class ", worker.numerics_class, " instead of ",
                      request.numerics_class);
    }
    if (!Serves(request, worker)) {
      tier += 1;
      ranked.words += ", outside its share of experts";
    }
    const double cost = ranked.cost_seconds;
    fit.push_back({tier, cost, Affinity(home_key, worker.id), i, std::move(ranked)});
  }
  std::sort(unfit.begin(), unfit.end(), [](const auto& a, const auto& b) { return a.worker < b.worker; });
  if (fit.empty()) return NoneFit(unfit);

  std::sort(fit.begin(), fit.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.tier, a.cost, b.affinity, a.ranked.worker) <
           std::tie(b.tier, b.cost, a.affinity, b.ranked.worker);
  });
  // Those about as good as the best, in its tier: the one the expert is at home with.
  size_t chosen = 0;
  for (size_t i = 1; i < fit.size() && fit[i].tier == fit[0].tier &&
                     fit[i].cost <= fit[0].cost + options_.stickiness_seconds;
       ++i) {
    if (fit[i].affinity > fit[chosen].affinity) chosen = i;
  }
  std::rotate(fit.begin(), fit.begin() + chosen, fit.begin() + chosen + 1);

  Placement placement;
  placement.worker = fit[0].worker;
  placement.worker_id = fit[0].ranked.worker;
  placement.cost_seconds = fit[0].cost;
  placement.numerics_class_changed = fit[0].tier >= 2;
  placement.reason = absl::StrCat(placement.worker_id, ": ", fit[0].ranked.words);
  if (fit.size() > 1) {
    absl::StrAppend(&placement.reason, "; next ", fit[1].ranked.worker, " ", Seconds(fit[1].cost));
  } else {
    placement.reason += "; the only worker fit";
  }
  for (Candidate& candidate : fit) placement.ranking.push_back(std::move(candidate.ranked));
  for (Placement::Ranked& ranked : unfit) placement.ranking.push_back(std::move(ranked));
  return placement;
}

}  // namespace coterie
