#include "router/placement_fit.h"

#include <algorithm>

namespace coterie::router_internal {
namespace {

bool TooLong(const PlacementRequest& request, const WorkerRow& worker) {
  return request.n_prompt_tokens >= RoomOf(request, worker);
}

bool FewSlots(const PlacementRequest& request, const WorkerRow& worker) {
  return request.adapters.size() > worker.adapter_slots;
}

bool FewMembers(const PlacementRequest& request, const WorkerRow& worker) {
  return request.n_rows > 1 && request.n_rows > worker.max_mixture_members;
}

bool NoConstraints(const PlacementRequest& request, const WorkerRow& worker) {
  return request.constrained && !worker.takes_constraints;
}

bool NoGate(const PlacementRequest& request, const WorkerRow& worker) {
  return request.gate != GateKind::kNone && !worker.gates.Has(request.gate);
}

}  // namespace

uint64_t RoomOf(const PlacementRequest& request, const WorkerRow& worker) {
  const uint64_t n_blocks = worker.kv_blocks_total / std::max<uint32_t>(1, request.n_rows);
  const uint64_t in_cache = n_blocks * std::max<uint32_t>(1, worker.kv_block_tokens);
  return worker.max_sequence_tokens == 0 ? in_cache
                                         : std::min<uint64_t>(in_cache, worker.max_sequence_tokens);
}

Fit FitOf(PlacementLookup* lookup, WorkerTable::Row row, bool strict_serves) {
  const PlacementRequest& request = lookup->request();
  const WorkerRow& worker = lookup->at(row);
  if (!request.exclude.empty() && request.exclude.contains(lookup->workers().id(row)))
    return Fit::kJustFailed;
  if (!worker.alive(lookup->now())) return Fit::kSilent;
  if (worker.draining) return Fit::kDraining;
  if (worker.base != request.base) return Fit::kOtherBase;
  if (strict_serves && !lookup->Serves(row)) return Fit::kOutsideItsShare;
  if (TooLong(request, worker)) return Fit::kTooLong;
  if (FewSlots(request, worker)) return Fit::kFewSlots;
  if (FewMembers(request, worker)) return Fit::kFewMembers;
  if (request.in_gang && worker.max_gangs == 0) return Fit::kNoGangs;
  if (NoConstraints(request, worker)) return Fit::kNoConstraints;
  if (NoGate(request, worker)) return Fit::kNoGate;
  return Fit::kFit;
}

Status NoneFit(PlacementLookup* lookup, bool strict_serves) {
  const PlacementRequest& request = lookup->request();
  uint64_t most_room = 0;
  uint32_t most_slots = 0, most_members = 0;
  bool too_long = false, few_slots = false, few_members = false, no_constraints = false, no_gate = false,
       hopeless = true;  // not now and not later, whichever the worker
  for (WorkerTable::Row row = 0; row < lookup->workers().size(); ++row) {
    const WorkerRow& worker = lookup->at(row);
    if (!worker.used) continue;
    if (worker.base != request.base) {
      // One that never said who it is may still turn out to be what is wanted.
      hopeless &= worker.refused || !worker.base.empty();
      continue;
    }
    if (TooLong(request, worker)) most_room = std::max(most_room, RoomOf(request, worker)), too_long = true;
    if (FewSlots(request, worker)) most_slots = std::max(most_slots, worker.adapter_slots), few_slots = true;
    if (FewMembers(request, worker)) {
      most_members = std::max(most_members, worker.max_mixture_members), few_members = true;
    }
    no_constraints |= NoConstraints(request, worker);
    no_gate |= NoGate(request, worker);
    hopeless &= TooLong(request, worker) || FewSlots(request, worker) || FewMembers(request, worker) ||
                NoConstraints(request, worker) || NoGate(request, worker) || worker.refused;
  }
  if (hopeless && too_long) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the prompt has ", request.n_prompt_tokens, " tokens and no worker has room for it: at most ",
        most_room, " tokens of prompt and answer together; shorten the prompt to ",
        most_room > 0 ? most_room - 1 : 0,
        " tokens or fewer, or start a worker with more (--kv-tokens, --max-context)"));
  }
  if (hopeless && few_slots) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the request combines ", request.adapters.size(), " adapters and no worker has more than ",
        most_slots,
        " adapter slots; ask for fewer experts (--top-k), or start workers with more (--adapter-slots)"));
  }
  if (hopeless && few_members) {
    return absl::FailedPreconditionError(
        absl::StrCat("the request mixes ", request.n_rows, " experts and no worker mixes more than ",
                     most_members, "; ask for fewer, or start workers with more (--max-seqs)"));
  }
  if (hopeless && no_constraints) {
    return absl::FailedPreconditionError(
        "the request has a constraint (response_format, a regex or a choice) and no worker holds answers to "
        "one: workers with a "
        "model, of this version, do");
  }
  if (hopeless && no_gate) {
    return absl::FailedPreconditionError(
        absl::StrCat("the request has the gate ", ToAbsl(NameOf(request.gate)),
                     " and no worker has it: workers on CPUs do",
                     request.gate == GateKind::kArrow ? ", where they were started with --arrow-gates" : ""));
  }
  return NotNow(lookup, strict_serves);
}

}  // namespace coterie::router_internal
