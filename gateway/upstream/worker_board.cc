#include "gateway/upstream/worker_board.h"

namespace coterie::gateway {
namespace {

// Of a worker that goes, forgotten with the lock held once: some tens of microseconds.
constexpr size_t kPrefixesAtOnce = 512;

}  // namespace

WorkerBoard::Row WorkerBoard::Add(std::string id) {
  MutexLock lock(&mutex_);
  const Row row = table_.Add(std::move(id));
  links_.resize(table_.size());
  capacities_.resize(table_.size());
  return row;
}

void WorkerBoard::SetLink(Row row, std::weak_ptr<WorkerLink> link) {
  MutexLock lock(&mutex_);
  links_[row] = std::move(link);
}

void WorkerBoard::Remove(Row row) {
  With([row](WorkerTable& table) { table.at(row).alive_until = MonotonicTime::InfinitePast(); });
  while (!With([row](WorkerTable& table) { return table.ForgetPrefixes(row, kPrefixesAtOnce); })) {
  }
  MutexLock lock(&mutex_);
  table_.Remove(row);
  links_[row].reset();
  capacities_[row] = 0;
}

void WorkerBoard::SetCapacity(Row row, uint32_t capacity) {
  MutexLock lock(&mutex_);
  capacities_[row] = capacity;
}

uint64_t WorkerBoard::Capacity() const {
  MutexLock lock(&mutex_);
  uint64_t sum = 0;
  for (Row row = 0; row < capacities_.size(); ++row) {
    if (table_.at(row).alive_until > MonotonicTime::InfinitePast()) sum += capacities_[row];
  }
  return sum;
}

StatusOr<WorkerBoard::Chosen> WorkerBoard::Place(const Placer& placer,
                                                 const PlacementRequest& request) const {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(Placement placement, placer.Place(request, table_, MonotonicNow()));
  return ChooseLocked(std::move(placement));
}

StatusOr<std::vector<WorkerBoard::ChosenPart>> WorkerBoard::PlaceGang(const Placer& placer,
                                                                      const PlacementRequest& request,
                                                                      std::vector<uint32_t>* homeless) const {
  MutexLock lock(&mutex_);
  ASSIGN_OR_RETURN(std::vector<GangPart> parts, placer.PlaceGang(request, table_, MonotonicNow(), homeless));
  std::vector<ChosenPart> chosen;
  for (GangPart& part : parts) {
    ASSIGN_OR_RETURN(Chosen one, ChooseLocked(std::move(part.placement)));
    chosen.push_back({std::move(one), std::move(part.members)});
  }
  return chosen;
}

StatusOr<WorkerBoard::Chosen> WorkerBoard::ChooseLocked(Placement placement) const {
  Chosen chosen;
  chosen.placement = std::move(placement);
  const Row row = chosen.placement.row;
  chosen.link = links_[row].lock();
  if (chosen.link == nullptr) {
    return absl::UnavailableError(absl::StrCat("worker ", chosen.placement.worker_id, " has just left"));
  }
  chosen.numerics_class = table_.numerics_class(row);
  chosen.batch_invariant = table_.batch_invariant(row);
  return chosen;
}

}  // namespace coterie::gateway
