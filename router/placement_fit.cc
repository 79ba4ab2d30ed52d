#include "router/placement_fit.h"

#include <algorithm>
#include <limits>

namespace coterie::router_internal {
namespace {

constexpr size_t kMaxWorkersInMessage = 16;

Status NotNow(std::span<const Placement::Ranked> unfit) {
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

// The reason of this moment, before those that stay: "is draining" is what an operator can act on.
std::string WhyNotNow(const PlacementRequest& request, const WorkerView& worker, bool strict_serves) {
  if (request.exclude.contains(worker.id)) return "just failed this request";
  if (!worker.alive) return "does not answer";
  if (worker.draining) return "is draining";
  if (worker.base != request.base) {
    return absl::StrCat("has base ", worker.base.Short(), ", the request needs ", request.base.Short());
  }
  if (strict_serves && !Serves(request, worker)) return "does not serve this expert";
  return "";
}

}  // namespace

bool Serves(const PlacementRequest& request, const WorkerView& worker) {
  return worker.serves.empty() || std::all_of(request.adapters.begin(), request.adapters.end(),
                                              [&](const PlacementRequest::Adapter& adapter) {
                                                return worker.serves.contains(adapter.name);
                                              });
}

uint64_t RoomOf(const WorkerView& worker) {
  const uint64_t in_cache = uint64_t{worker.kv_blocks_total} * std::max<uint32_t>(1, worker.kv_block_tokens);
  return worker.max_sequence_tokens == 0 ? in_cache
                                         : std::min<uint64_t>(in_cache, worker.max_sequence_tokens);
}

Fit FitOf(const PlacementRequest& request, const WorkerView& worker, bool strict_serves) {
  Fit fit;
  fit.why_not = WhyNotNow(request, worker, strict_serves);
  if (worker.base != request.base) {
    // One that never said who it is may still turn out to be what is wanted.
    fit.hopeless = worker.refused || !worker.base.empty();
    return fit;
  }
  const uint64_t room = RoomOf(worker);
  fit.too_long = request.n_prompt_tokens >= room;
  fit.few_slots = request.adapters.size() > worker.adapter_slots_total;
  fit.hopeless = fit.too_long || fit.few_slots || worker.refused;
  if (!fit.why_not.empty()) return fit;
  if (fit.too_long) {
    fit.why_not = absl::StrCat("has room for ", room, " tokens, the prompt has ", request.n_prompt_tokens);
  } else if (fit.few_slots) {
    fit.why_not = absl::StrCat("has ", worker.adapter_slots_total, " adapter slots, the request needs ",
                               request.adapters.size());
  }
  return fit;
}

Status NoneFit(const PlacementRequest& request, std::span<const WorkerView> workers,
               std::span<const Fit> fits, std::span<const Placement::Ranked> unfit) {
  if (!std::all_of(fits.begin(), fits.end(), [](const Fit& fit) { return fit.hopeless; }))
    return NotNow(unfit);
  uint64_t most_room = 0;
  uint32_t most_slots = 0;
  bool too_long = false, few_slots = false;
  for (size_t i = 0; i < fits.size(); ++i) {
    if (fits[i].too_long) most_room = std::max(most_room, RoomOf(workers[i]));
    if (fits[i].few_slots) most_slots = std::max(most_slots, workers[i].adapter_slots_total);
    too_long |= fits[i].too_long;
    few_slots |= fits[i].few_slots;
  }
  if (too_long) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", request.n_prompt_tokens, " tokens and no worker has room for it: at most ",
        most_room, " tokens of prompt and answer together; shorten the prompt to ",
        most_room > 0 ? most_room - 1 : 0,
        " tokens or fewer, or start a worker with more (--kv-tokens, --max-context)"));
  }
  if (few_slots) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the request combines ", request.adapters.size(), " adapters and no worker has more than ",
        most_slots,
        " adapter slots; ask for fewer experts (--top-k), or start workers with more (--adapter-slots)"));
  }
  return NotNow(unfit);
}

}  // namespace coterie::router_internal
