// A mixture over several workers: Placer::PlaceGang.
#include <algorithm>
#include <utility>

#include "router/placement.h"
#include "router/placement_fit.h"
#include "router/placement_lookup.h"

namespace coterie {
namespace {

using router_internal::Fit;
using router_internal::FitOf;
using router_internal::PlacementLookup;

// The same request for these members alone.
PlacementRequest PartOf(const PlacementRequest& request, const std::vector<uint32_t>& members) {
  PlacementRequest part = request;
  part.in_gang = true;
  part.n_rows = static_cast<uint32_t>(members.size());
  part.adapters.clear();
  for (const uint32_t member : members) part.adapters.push_back(request.adapters[member]);
  if (members.front() != 0) part.prefix_keys = {};  // they are those of the first row
  return part;
}

// Which workers could take which members, each alone.
std::vector<std::vector<uint32_t>> MembersByWorker(const PlacementRequest& request,
                                                   const WorkerTable& workers, MonotonicTime now,
                                                   bool strict_serves) {
  std::vector<std::vector<uint32_t>> by_worker(workers.size());
  for (uint32_t member = 0; member < request.adapters.size(); ++member) {
    const PlacementRequest alone = PartOf(request, {member});
    PlacementLookup lookup(alone, workers, now);
    for (WorkerTable::Row row = 0; row < workers.size(); ++row) {
      if (!workers.at(row).used || FitOf(&lookup, row, strict_serves) != Fit::kFit) continue;
      by_worker[row].push_back(member);
    }
  }
  return by_worker;
}

}  // namespace

StatusOr<std::vector<GangPart>> Placer::PlaceGang(const PlacementRequest& request, const WorkerTable& workers,
                                                  MonotonicTime now, std::vector<uint32_t>* homeless) const {
  std::vector<std::vector<uint32_t>> by_worker =
      MembersByWorker(request, workers, now, options_.strict_serves);
  std::vector<uint32_t> rest(request.adapters.size());
  for (uint32_t member = 0; member < rest.size(); ++member) rest[member] = member;
  PlacementRequest asked = request;  // each worker has one part at most
  std::vector<GangPart> parts;
  Status why;
  while (!rest.empty()) {
    // The most that one worker could take of what is left; at least one member, to hear why it has no home.
    std::vector<uint32_t> most = {rest.front()};
    for (WorkerTable::Row row = 0; row < by_worker.size(); ++row) {
      if (asked.exclude.contains(workers.id(row))) continue;
      std::vector<uint32_t> could;
      std::set_intersection(by_worker[row].begin(), by_worker[row].end(), rest.begin(), rest.end(),
                            std::back_inserter(could));
      const WorkerRow& worker = workers.at(row);
      could.resize(std::min<size_t>(
          could.size(), std::max<uint32_t>(1, std::min(worker.adapter_slots, worker.max_mixture_members))));
      if (could.size() > most.size()) most = std::move(could);
    }
    StatusOr<Placement> placed = Place(PartOf(asked, most), workers, now);
    // Together they may want more room than each alone.
    while (!placed.ok() && most.size() > 1) {
      most.pop_back();
      placed = Place(PartOf(asked, most), workers, now);
    }
    if (placed.ok()) {
      asked.exclude.insert(placed->worker_id);
      parts.push_back({*std::move(placed), most});
    } else {
      if (why.ok()) {
        // In words of all workers, those with other members included.
        const StatusOr<Placement> anywhere = Place(PartOf(request, most), workers, now);
        why = anywhere.ok() ? absl::UnavailableError(absl::StrCat("no worker has room for ",
                                                                  request.adapters[most.front()].name,
                                                                  " beside the other members of the mixture"))
                            : anywhere.status();
      }
      homeless->push_back(most.front());
    }
    std::erase_if(rest,
                  [&](uint32_t member) { return std::find(most.begin(), most.end(), member) != most.end(); });
  }
  if (!why.ok()) return why;
  return parts;
}

}  // namespace coterie
