// Placement in words: made only for what a person is shown, never for every worker.
#include <algorithm>
#include <cstdio>

#include "router/placement_cost.h"
#include "router/placement_fit.h"

namespace coterie::router_internal {
namespace {

constexpr size_t kMaxWorkersInMessage = 16;

}  // namespace

std::string SecondsInWords(double seconds) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.3f s", seconds);
  return text;
}

std::string CostInWords(const CostParts& parts, const PlacementLookup& lookup, WorkerTable::Row row) {
  const PlacementRequest& request = lookup.request();
  const WorkerRow& worker = lookup.at(row);
  std::string words =
      request.adapters.empty() ? "base"
      : parts.n_cold > 0
          ? absl::StrCat(parts.n_cold, parts.n_cold == 1 ? " adapter" : " adapters", " to load")
      : parts.n_coming > 0 ? "adapter on its way"
                           : "adapter resident";
  absl::StrAppend(&words, ", ", worker.running, " running, ", worker.queued(), " waiting");
  if (parts.n_warm > 0) {
    absl::StrAppend(&words, ", ", parts.n_warm, " of ", request.n_prompt_tokens, " prompt tokens warm");
  }
  absl::StrAppend(&words, ", cost ", SecondsInWords(parts.total()));
  return words;
}

std::string FitInWords(Fit fit, const PlacementRequest& request, const WorkerRow& worker) {
  switch (fit) {
    case Fit::kFit:
      return "fit";
    case Fit::kJustFailed:
      return "just failed this request";
    case Fit::kSilent:
      return "does not answer";
    case Fit::kDraining:
      return "is draining";
    case Fit::kOtherBase:
      return absl::StrCat("has base ", worker.base.Short(), ", the request needs ", request.base.Short());
    case Fit::kOutsideItsShare:
      return "does not serve this expert";
    case Fit::kTooLong:
      return absl::StrCat("has room for ", RoomOf(request, worker), " tokens, the prompt has ",
                          request.n_prompt_tokens);
    case Fit::kFewSlots:
      return absl::StrCat("has ", worker.adapter_slots, " adapter slots, the request needs ",
                          request.adapters.size());
    case Fit::kFewMembers:
      return absl::StrCat("mixes at most ", worker.max_mixture_members, " experts, the request has ",
                          request.n_rows);
    case Fit::kNoGangs:
      return "answers nothing together with others (--max-gangs, and no --tls-cert)";
    case Fit::kNoConstraints:
      return "holds no answer to a constraint";
    case Fit::kNoGate:
      return absl::StrCat("has no gate ", ToAbsl(NameOf(request.gate)));
  }
  return "";
}

Status NotNow(PlacementLookup* lookup, bool strict_serves) {
  std::vector<std::pair<std::string, std::string>> unfit;  // worker, why
  for (WorkerTable::Row row = 0; row < lookup->workers().size(); ++row) {
    if (!lookup->at(row).used) continue;
    const Fit fit = FitOf(lookup, row, strict_serves);
    unfit.emplace_back(lookup->workers().id(row), FitInWords(fit, lookup->request(), lookup->at(row)));
  }
  if (unfit.empty()) return absl::UnavailableError("no worker can take this request: none is known");
  std::sort(unfit.begin(), unfit.end());
  std::string message = "no worker can take this request: ";
  for (size_t i = 0; i < std::min(unfit.size(), kMaxWorkersInMessage); ++i) {
    absl::StrAppend(&message, i == 0 ? "" : "; ", unfit[i].first, " ", unfit[i].second);
  }
  if (unfit.size() > kMaxWorkersInMessage) {
    absl::StrAppend(&message, "; and ", unfit.size() - kMaxWorkersInMessage, " more");
  }
  return absl::UnavailableError(message);
}

}  // namespace coterie::router_internal
