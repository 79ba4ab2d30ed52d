#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_BOARD_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_BOARD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "router/placement.h"
#include "router/worker_table.h"

namespace coterie::gateway {

class WorkerLink;

// The table of workers that placement reads and the links write, under one lock that is held for microseconds
// and within which nothing else is locked or called. A link may hold its own lock while it writes; whoever
// places holds none. Thread-safe.
class WorkerBoard {
 public:
  using Row = WorkerTable::Row;
  struct Chosen {
    std::shared_ptr<WorkerLink> link;
    Placement placement;
    std::string numerics_class;
    bool batch_invariant = true;
  };

  // A row for a worker, called `id` until it has said its own.
  Row Add(std::string id);
  // Who leads there; until then the row is not to be alive.
  void SetLink(Row row, std::weak_ptr<WorkerLink> link);
  void Remove(Row row);
  // Sequences that the worker takes of this gateway, those that wait or stand still included.
  void SetCapacity(Row row, uint32_t capacity);
  // Of all workers that are not given up.
  uint64_t Capacity() const;
  // Whatever `change` answers; it has the table for itself.
  template <class Change>
  auto With(Change change) {
    MutexLock lock(&mutex_);
    return change(table_);
  }

  // As Placer::Place, with the link that leads there.
  StatusOr<Chosen> Place(const Placer& placer, const PlacementRequest& request) const;
  // As Placer::PlaceGang, likewise; a part for each worker.
  struct ChosenPart {
    Chosen chosen;
    std::vector<uint32_t> members;
  };
  StatusOr<std::vector<ChosenPart>> PlaceGang(const Placer& placer, const PlacementRequest& request,
                                              std::vector<uint32_t>* homeless) const;

 private:
  StatusOr<Chosen> ChooseLocked(Placement placement) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable Mutex mutex_;
  WorkerTable table_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::weak_ptr<WorkerLink>> links_ ABSL_GUARDED_BY(mutex_);  // [rows]
  std::vector<uint32_t> capacities_ ABSL_GUARDED_BY(mutex_);              // [rows]
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_BOARD_H_
