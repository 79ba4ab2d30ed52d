#include "tests/router/placement_reference.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <tuple>

#include "common/prefix_key.h"
#include "common/random.h"

namespace coterie::reference {
namespace {

double OrOne(double rate) { return std::isfinite(rate) && rate > 0 ? rate : 1.0; }

std::string InSeconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f s", seconds);
  return text;
}

bool ServesAll(const PlacementRequest& request, const WorkerView& worker) {
  if (worker.serves.empty()) return true;
  for (const auto& adapter : request.adapters) {
    if (!worker.serves.contains(adapter.name)) return false;
  }
  return true;
}

uint64_t Room(const WorkerView& worker) {
  const uint64_t in_cache = uint64_t{worker.kv_blocks_total} * std::max<uint32_t>(1, worker.kv_block_tokens);
  return worker.max_sequence_tokens == 0 ? in_cache
                                         : std::min<uint64_t>(in_cache, worker.max_sequence_tokens);
}

std::string WhyUnfit(const PlacementRequest& request, const WorkerView& worker, bool strict_serves) {
  if (request.exclude.contains(worker.id)) return "just failed this request";
  if (!worker.alive) return "does not answer";
  if (worker.draining) return "is draining";
  if (worker.base != request.base) {
    return absl::StrCat("has base ", worker.base.Short(), ", the request needs ", request.base.Short());
  }
  if (strict_serves && !ServesAll(request, worker)) return "does not serve this expert";
  if (request.n_prompt_tokens >= Room(worker)) {
    return absl::StrCat("has room for ", Room(worker), " tokens, the prompt has ", request.n_prompt_tokens);
  }
  if (request.adapters.size() > worker.adapter_slots_total) {
    return absl::StrCat("has ", worker.adapter_slots_total, " adapter slots, the request needs ",
                        request.adapters.size());
  }
  return "";
}

Status NobodyFits(const PlacementRequest& request, std::span<const WorkerView> workers,
                  std::vector<Ranked> unfit) {
  bool too_long = false, few_slots = false, hope = false;
  uint64_t most_room = 0;
  uint32_t most_slots = 0;
  for (const WorkerView& worker : workers) {
    if (worker.base != request.base) {
      hope |= !worker.refused && worker.base.empty();
      continue;
    }
    const bool long_here = request.n_prompt_tokens >= Room(worker);
    const bool few_here = request.adapters.size() > worker.adapter_slots_total;
    if (long_here) most_room = std::max(most_room, Room(worker));
    if (few_here) most_slots = std::max(most_slots, worker.adapter_slots_total);
    too_long |= long_here;
    few_slots |= few_here;
    hope |= !long_here && !few_here && !worker.refused;
  }
  if (!hope && too_long) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", request.n_prompt_tokens, " tokens and no worker has room for it: at most ",
        most_room, " tokens of prompt and answer together; shorten the prompt to ",
        most_room > 0 ? most_room - 1 : 0,
        " tokens or fewer, or start a worker with more (--kv-tokens, --max-context)"));
  }
  if (!hope && few_slots) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the request combines ", request.adapters.size(), " adapters and no worker has more than ",
        most_slots,
        " adapter slots; ask for fewer experts (--top-k), or start workers with more (--adapter-slots)"));
  }
  if (unfit.empty()) return absl::UnavailableError("no worker can take this request: none is known");
  std::string message = "no worker can take this request: ";
  for (size_t i = 0; i < std::min<size_t>(unfit.size(), 16); ++i) {
    absl::StrAppend(&message, i == 0 ? "" : "; ", workers[unfit[i].worker].id, " ", unfit[i].words);
  }
  if (unfit.size() > 16) absl::StrAppend(&message, "; and ", unfit.size() - 16, " more");
  return absl::UnavailableError(message);
}

double Cost(const PlacementOptions& options, const PlacementRequest& request, const WorkerView& worker,
            std::string* words) {
  const bool knows_answers = std::isfinite(worker.answer_tokens) && worker.answer_tokens > 0;
  const bool knows_loads = std::isfinite(worker.load_bytes_per_second) && worker.load_bytes_per_second > 0;
  const double answer_seconds = (knows_answers ? worker.answer_tokens : options.mean_answer_tokens) /
                                OrOne(worker.decode_tokens_per_second);
  const double max_running = std::max<uint32_t>(worker.max_running, 1);
  double ahead = worker.waiting + std::max(0.0, worker.running + 1.0 - max_running);
  const uint64_t block_tokens = std::max<uint32_t>(1, worker.kv_block_tokens);
  const auto n_blocks = static_cast<uint32_t>((request.n_prompt_tokens + block_tokens - 1) / block_tokens);
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
  for (const auto& adapter : request.adapters) {
    if (worker.resident.contains(adapter.digest)) continue;
    const double seconds = options.load_latency_seconds +
                           static_cast<double>(adapter.n_bytes) /
                               (knows_loads ? worker.load_bytes_per_second : options.load_bytes_per_second);
    if (worker.loading.contains(adapter.digest)) {
      load += seconds / 2;
      ++n_loading;
      continue;
    }
    load += seconds;
    if (slots_taken >= worker.adapter_slots_total) load += options.eviction_seconds;
    ++slots_taken;
    ++n_cold;
  }
  const uint64_t n_warm = std::min<uint64_t>(worker.warm_blocks * uint64_t{kPrefixBlockTokens},
                                             request.n_prompt_tokens > 0 ? request.n_prompt_tokens - 1 : 0);
  const double prefill =
      static_cast<double>(request.n_prompt_tokens - n_warm) / OrOne(worker.prefill_tokens_per_second);

  *words = request.adapters.empty() ? "base"
           : n_cold > 0             ? absl::StrCat(n_cold, n_cold == 1 ? " adapter" : " adapters", " to load")
           : n_loading > 0          ? "adapter on its way"
                                    : "adapter resident";
  absl::StrAppend(words, ", ", worker.running, " running, ", worker.waiting, " waiting");
  if (n_warm > 0) {
    absl::StrAppend(words, ", ", n_warm, " of ", request.n_prompt_tokens, " prompt tokens warm");
  }
  const double cost = queue + contention + load + prefill;
  absl::StrAppend(words, ", cost ", InSeconds(cost));
  return cost;
}

uint64_t AffinityOf(const PlacementRequest& request, const WorkerView& worker) {
  uint64_t home = request.prefix_keys.empty() ? request.seed : request.prefix_keys[0];
  if (!request.adapters.empty()) home = 0;
  for (const auto& adapter : request.adapters) {
    uint64_t word;
    std::memcpy(&word, adapter.digest.bytes().data(), sizeof(word));
    home ^= Mix(word);
  }
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : worker.id) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return Mix(Mix(home) ^ hash);
}

}  // namespace

StatusOr<Placement> Place(const PlacementOptions& options, const PlacementRequest& request,
                          std::span<const WorkerView> workers) {
  std::vector<Ranked> fit, unfit;
  for (size_t i = 0; i < workers.size(); ++i) {
    std::string why = WhyUnfit(request, workers[i], options.strict_serves);
    (why.empty() ? fit : unfit).push_back({.worker = i, .fit = why.empty(), .words = std::move(why)});
  }
  const auto id = [&](const Ranked& ranked) -> const std::string& { return workers[ranked.worker].id; };
  std::sort(unfit.begin(), unfit.end(), [&](const Ranked& a, const Ranked& b) { return id(a) < id(b); });
  if (fit.empty()) return NobodyFits(request, workers, unfit);

  uint64_t most = 0;
  size_t n_ejected = 0;
  const auto answer_room = [&](const Ranked& ranked) {
    return std::min<uint64_t>(request.max_new_tokens, Room(workers[ranked.worker]) - request.n_prompt_tokens);
  };
  for (const Ranked& ranked : fit) {
    most = std::max(most, answer_room(ranked));
    n_ejected += workers[ranked.worker].ejected ? 1 : 0;
  }
  const uint64_t enough = most == request.max_new_tokens ? most : most - most / 8;
  for (Ranked& ranked : fit) {
    const WorkerView& worker = workers[ranked.worker];
    ranked.cost_seconds = Cost(options, request, worker, &ranked.words);
    const uint64_t room = answer_room(ranked);
    if (room < enough) ranked.tier |= 8;
    if (room < request.max_new_tokens) {
      absl::StrAppend(&ranked.words, ", room for ", room, " of ", request.max_new_tokens, " answer tokens");
    }
    if (!request.numerics_class.empty() && worker.numerics_class != request.numerics_class) {
      ranked.tier |= 4;
      absl::StrAppend(&ranked.words, ", numerics class ", worker.numerics_class, " instead of ",
                      request.numerics_class);
    }
    if (worker.ejected && 2 * n_ejected <= fit.size()) {
      ranked.tier |= 2;
      ranked.words += ", ejected for failing again and again";
    }
    if (!ServesAll(request, worker)) {
      ranked.tier |= 1;
      ranked.words += ", outside its share of experts";
    }
  }
  const auto affinity = [&](const Ranked& r) { return AffinityOf(request, workers[r.worker]); };
  std::sort(fit.begin(), fit.end(), [&](const Ranked& a, const Ranked& b) {
    return std::tuple(a.tier, a.cost_seconds, affinity(b), id(a)) <
           std::tuple(b.tier, b.cost_seconds, affinity(a), id(b));
  });
  size_t chosen = 0;
  for (size_t i = 1; i < fit.size() && fit[i].tier == fit[0].tier &&
                     fit[i].cost_seconds <= fit[0].cost_seconds + options.stickiness_seconds;
       ++i) {
    if (affinity(fit[i]) > affinity(fit[chosen])) chosen = i;
  }
  std::rotate(fit.begin(), fit.begin() + static_cast<ptrdiff_t>(chosen),
              fit.begin() + static_cast<ptrdiff_t>(chosen) + 1);
  Placement placement;
  placement.worker_id = id(fit[0]);
  placement.cost_seconds = fit[0].cost_seconds;
  placement.numerics_class_changed = (fit[0].tier & 4) != 0;
  placement.reason = absl::StrCat(
      id(fit[0]), ": ", fit[0].words,
      fit.size() == 1 ? "; the only worker fit"
                      : absl::StrCat("; next ", id(fit[1]), " ", InSeconds(fit[1].cost_seconds)));
  placement.ranking = std::move(fit);
  placement.ranking.insert(placement.ranking.end(), unfit.begin(), unfit.end());
  return placement;
}

}  // namespace coterie::reference
