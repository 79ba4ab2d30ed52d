#include "router/placement.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include "common/random.h"
#include "router/placement_cost.h"
#include "router/placement_fit.h"

namespace coterie {
namespace {

using router_internal::CostOf;
using router_internal::Fit;
using router_internal::FitOf;
using router_internal::NoneFit;
using router_internal::RoomOf;
using router_internal::SecondsInWords;
using router_internal::Serves;

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

Status CheckOption(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return absl::OkStatus();  // NaN falls through
  return absl::InvalidArgumentError(
      absl::StrCat("placement option ", ToAbsl(name), " = ", value, " is outside ", low, "..", high));
}

// What puts a worker behind others whatever it costs; the larger outweighs all smaller ones together.
enum Tier : uint32_t {
  kOutsideItsShare = 1,
  kEjected = 2,
  // The class outweighs the share: an answer that goes on unchanged is worth a cold load.
  kOtherClass = 4,
  kCutsShort = 8,
};

struct Candidate {
  size_t worker = 0;  // position in the span of views
  uint32_t tier = 0;  // 0 is best
  uint64_t affinity = 0;
  Placement::Ranked ranked;
};

// Answer tokens that fit behind the prompt, of those asked for.
uint64_t AnswerRoom(const PlacementRequest& request, const WorkerView& worker) {
  return std::min<uint64_t>(request.max_new_tokens, RoomOf(worker) - request.n_prompt_tokens);
}

// From which room on a worker is not behind the others: all that was asked for, or where no worker has that,
// within an eighth of the most. Caches that differ by a few blocks must not send every long answer to one
// worker.
uint64_t EnoughRoom(const PlacementRequest& request, std::span<const WorkerView> workers,
                    std::span<const Candidate> candidates) {
  uint64_t most = 0;
  for (const Candidate& candidate : candidates) {
    most = std::max(most, AnswerRoom(request, workers[candidate.worker]));
  }
  return most == request.max_new_tokens ? most : most - most / 8;
}

// Cost, tier and words of each candidate.
void Weigh(const PlacementOptions& options, const PlacementRequest& request,
           std::span<const WorkerView> workers, std::vector<Candidate>* candidates) {
  const uint64_t home_key = HomeKey(request);
  const uint64_t enough = EnoughRoom(request, workers, *candidates);
  const auto n_ejected = static_cast<size_t>(
      std::count_if(candidates->begin(), candidates->end(),
                    [&](const Candidate& candidate) { return workers[candidate.worker].ejected; }));
  // Where most of them fail, the fault lies elsewhere, and the rest could not carry the load.
  const bool ejections_count = 2 * n_ejected <= candidates->size();
  for (Candidate& candidate : *candidates) {
    const WorkerView& worker = workers[candidate.worker];
    Placement::Ranked& ranked = candidate.ranked;
    ranked.worker = worker.id;
    ranked.fit = true;
    ranked.cost_seconds = CostOf(options, request, worker, &ranked.words);
    candidate.affinity = Affinity(home_key, worker.id);
    const uint64_t room = AnswerRoom(request, worker);
    if (room < enough) candidate.tier |= kCutsShort;
    if (room < request.max_new_tokens) {
      absl::StrAppend(&ranked.words, ", room for ", room, " of ", request.max_new_tokens, " answer tokens");
    }
    if (!request.numerics_class.empty() && worker.numerics_class != request.numerics_class) {
      candidate.tier |= kOtherClass;
      absl::StrAppend(&ranked.words, ", numerics class ", worker.numerics_class, " instead of ",
                      request.numerics_class);
    }
    if (worker.ejected && ejections_count) {
      candidate.tier |= kEjected;
      ranked.words += ", ejected for failing again and again";
    }
    if (!Serves(request, worker)) {
      candidate.tier |= kOutsideItsShare;
      ranked.words += ", outside its share of experts";
    }
  }
}

}  // namespace

StatusOr<Placer> Placer::Create(const PlacementOptions& options) {
  RETURN_IF_ERROR(CheckOption("load_bytes_per_second", options.load_bytes_per_second, 1, 1e15));
  RETURN_IF_ERROR(CheckOption("load_latency_seconds", options.load_latency_seconds, 0, 3600));
  RETURN_IF_ERROR(CheckOption("eviction_seconds", options.eviction_seconds, 0, 3600));
  RETURN_IF_ERROR(CheckOption("mean_answer_tokens", options.mean_answer_tokens, 1, 1e9));
  RETURN_IF_ERROR(CheckOption("contention", options.contention, 0, 1e3));
  RETURN_IF_ERROR(CheckOption("stickiness_seconds", options.stickiness_seconds, 0, 3600));
  return Placer(options);
}

StatusOr<Placement> Placer::Place(const PlacementRequest& request,
                                  std::span<const WorkerView> workers) const {
  std::vector<Candidate> candidates;
  std::vector<Placement::Ranked> unfit;
  std::vector<Fit> fits;
  fits.reserve(workers.size());
  for (size_t i = 0; i < workers.size(); ++i) {
    fits.push_back(FitOf(request, workers[i], options_.strict_serves));
    if (fits[i].why_not.empty()) {
      candidates.push_back({.worker = i});
    } else {
      unfit.push_back({.worker = workers[i].id, .words = fits[i].why_not});
    }
  }
  std::sort(unfit.begin(), unfit.end(), [](const auto& a, const auto& b) { return a.worker < b.worker; });
  if (candidates.empty()) return NoneFit(request, workers, fits, unfit);

  Weigh(options_, request, workers, &candidates);
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.tier, a.ranked.cost_seconds, b.affinity, a.ranked.worker) <
           std::tie(b.tier, b.ranked.cost_seconds, a.affinity, b.ranked.worker);
  });
  // Those about as good as the best, in its tier: the one the expert is at home with.
  const double good = candidates[0].ranked.cost_seconds + options_.stickiness_seconds;
  size_t chosen = 0;
  for (size_t i = 1; i < candidates.size() && candidates[i].tier == candidates[0].tier &&
                     candidates[i].ranked.cost_seconds <= good;
       ++i) {
    if (candidates[i].affinity > candidates[chosen].affinity) chosen = i;
  }
  std::rotate(candidates.begin(), candidates.begin() + chosen, candidates.begin() + chosen + 1);

  const Placement::Ranked& best = candidates[0].ranked;
  Placement placement;
  placement.worker = candidates[0].worker;
  placement.worker_id = best.worker;
  placement.cost_seconds = best.cost_seconds;
  placement.numerics_class_changed = (candidates[0].tier & kOtherClass) != 0;
  placement.reason = absl::StrCat(best.worker, ": ", best.words);
  if (candidates.size() > 1) {
    absl::StrAppend(&placement.reason, "; next ", candidates[1].ranked.worker, " ",
                    SecondsInWords(candidates[1].ranked.cost_seconds));
  } else {
    placement.reason += "; the only worker fit";
  }
  for (Candidate& candidate : candidates) placement.ranking.push_back(std::move(candidate.ranked));
  for (Placement::Ranked& ranked : unfit) placement.ranking.push_back(std::move(ranked));
  return placement;
}

}  // namespace coterie
