#include "router/placement.h"

#include <algorithm>
#include <cstring>

#include "common/random.h"
#include "router/placement_cost.h"
#include "router/placement_fit.h"

namespace coterie {
namespace {

using router_internal::CostInWords;
using router_internal::CostOf;
using router_internal::Fit;
using router_internal::FitOf;
using router_internal::NoneFit;
using router_internal::PlacementLookup;
using router_internal::RoomOf;
using router_internal::SecondsInWords;

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
  WorkerTable::Row row = 0;
  uint32_t tier = 0;  // 0 is best
  double cost_seconds = 0;
  uint64_t affinity = 0;
};

// Answer tokens that fit behind the prompt, of those asked for.
uint64_t AnswerRoom(const PlacementRequest& request, const WorkerRow& worker) {
  return std::min<uint64_t>(request.max_new_tokens, RoomOf(request, worker) - request.n_prompt_tokens);
}

// One request's choice among the workers of a table.
class Choice {
 public:
  Choice(const PlacementOptions& options, const PlacementRequest& request, const WorkerTable& workers,
         MonotonicTime now)
      : options_(options), request_(request), workers_(workers), lookup_(request, workers, now) {}

  // Fit workers. The choice is made among them.
  size_t FindCandidates() {
    candidates_.reserve(workers_.size());
    uint64_t most_room = 0;
    size_t n_ejected = 0;
    for (WorkerTable::Row row = 0; row < workers_.size(); ++row) {
      const WorkerRow& worker = workers_.at(row);
      if (!worker.used || FitOf(&lookup_, row, options_.strict_serves) != Fit::kFit) continue;
      candidates_.push_back({.row = row});
      most_room = std::max(most_room, AnswerRoom(request_, worker));
      n_ejected += worker.ejected(lookup_.now()) ? 1 : 0;
    }
    // From which room on a worker is not behind the others: all that was asked for, or where no worker has
    // that, within an eighth of the most. Caches that differ by a few blocks must not send every long answer
    // to one worker.
    enough_room_ = most_room == request_.max_new_tokens ? most_room : most_room - most_room / 8;
    // Where most of them fail, the fault lies elsewhere, and the rest could not carry the load.
    ejections_count_ = 2 * n_ejected <= candidates_.size();
    return candidates_.size();
  }

  void Weigh() {
    const uint64_t home = Mix(HomeKey(request_));
    for (Candidate& candidate : candidates_) {
      candidate.tier = TierOf(candidate.row);
      candidate.cost_seconds = CostOf(options_, lookup_, candidate.row).total();
      candidate.affinity = Mix(home ^ workers_.at(candidate.row).id_hash);
    }
  }

  // Of those about as good as the best, in its tier: the one the expert is at home with.
  Placement Best() {
    const Candidate* first = &candidates_[0];
    for (const Candidate& candidate : candidates_) {
      if (Before(candidate, *first)) first = &candidate;
    }
    const double good = first->cost_seconds + options_.stickiness_seconds;
    const Candidate* best = first;
    for (const Candidate& candidate : candidates_) {
      if (candidate.tier != first->tier || !(candidate.cost_seconds <= good)) continue;
      if (candidate.affinity > best->affinity ||
          (candidate.affinity == best->affinity && Before(candidate, *best))) {
        best = &candidate;
      }
    }
    const Candidate* next = nullptr;
    for (const Candidate& candidate : candidates_) {
      if (&candidate != best && (next == nullptr || Before(candidate, *next))) next = &candidate;
    }
    Placement placement;
    placement.row = best->row;
    placement.worker_id = workers_.id(best->row);
    placement.cost_seconds = best->cost_seconds;
    placement.room_tokens = RoomOf(request_, workers_.at(best->row));
    placement.numerics_class_changed = (best->tier & kOtherClass) != 0;
    placement.reason = absl::StrCat(placement.worker_id, ": ", InWords(*best));
    if (next != nullptr) {
      absl::StrAppend(&placement.reason, "; next ", workers_.id(next->row), " ",
                      SecondsInWords(next->cost_seconds));
    } else {
      placement.reason += "; the only worker fit";
    }
    return placement;
  }

  Status WhyNone() { return NoneFit(&lookup_, options_.strict_serves); }

 private:
  uint32_t TierOf(WorkerTable::Row row) {
    const WorkerRow& worker = workers_.at(row);
    uint32_t tier = 0;
    if (AnswerRoom(request_, worker) < enough_room_) tier |= kCutsShort;
    if (OtherClass(row)) tier |= kOtherClass;
    if (worker.ejected(lookup_.now()) && ejections_count_) tier |= kEjected;
    if (!lookup_.Serves(row)) tier |= kOutsideItsShare;
    return tier;
  }
  bool OtherClass(WorkerTable::Row row) const {
    return !request_.numerics_class.empty() && workers_.numerics_class(row) != request_.numerics_class;
  }

  // The order of the ranking: tier, cost, the nearer home, id.
  bool Before(const Candidate& a, const Candidate& b) const {
    if (a.tier != b.tier) return a.tier < b.tier;
    if (a.cost_seconds != b.cost_seconds) return a.cost_seconds < b.cost_seconds;
    if (a.affinity != b.affinity) return a.affinity > b.affinity;
    return workers_.id(a.row) < workers_.id(b.row);
  }

  std::string InWords(const Candidate& candidate) {
    std::string words = CostInWords(CostOf(options_, lookup_, candidate.row), lookup_, candidate.row);
    if (const uint64_t room = AnswerRoom(request_, workers_.at(candidate.row));
        room < request_.max_new_tokens) {
      absl::StrAppend(&words, ", room for ", room, " of ", request_.max_new_tokens, " answer tokens");
    }
    if (OtherClass(candidate.row)) {
      absl::StrAppend(&words, ", numerics class ", workers_.numerics_class(candidate.row), " instead of ",
                      request_.numerics_class);
    }
    if ((candidate.tier & kEjected) != 0) words += ", ejected for failing again and again";
    if ((candidate.tier & kOutsideItsShare) != 0) words += ", outside its share of experts";
    return words;
  }

  const PlacementOptions& options_;
  const PlacementRequest& request_;
  const WorkerTable& workers_;
  PlacementLookup lookup_;
  std::vector<Candidate> candidates_;
  uint64_t enough_room_ = 0;
  bool ejections_count_ = true;
};

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

StatusOr<Placement> Placer::Place(const PlacementRequest& request, const WorkerTable& workers,
                                  MonotonicTime now) const {
  Choice choice(options_, request, workers, now);
  if (choice.FindCandidates() == 0) return choice.WhyNone();
  choice.Weigh();
  return choice.Best();
}

}  // namespace coterie
