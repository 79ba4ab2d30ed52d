#ifndef COTERIE_ROUTER_PLACEMENT_LOOKUP_H_
#define COTERIE_ROUTER_PLACEMENT_LOOKUP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "router/placement.h"

namespace coterie::router_internal {

// What one request wants to know of the table, looked up once for all workers. Borrows both for its life; the
// table must not change meanwhile.
class PlacementLookup {
 public:
  using Row = WorkerTable::Row;

  PlacementLookup(const PlacementRequest& request, const WorkerTable& workers, MonotonicTime now)
      : request_(request), workers_(workers), now_(now), serves_(workers.n_serves(), Match::kUnknown) {
    for (const PlacementRequest::Adapter& adapter : request.adapters) {
      holders_.push_back(workers.Holders(adapter.digest));
    }
    workers.CountWarm(request.prefix_keys, &warm_blocks_);
  }

  const PlacementRequest& request() const { return request_; }
  const WorkerTable& workers() const { return workers_; }
  const WorkerRow& at(Row row) const { return workers_.at(row); }
  MonotonicTime now() const { return now_; }

  bool IsResident(Row row, size_t adapter) const {
    return holders_[adapter] != nullptr && holders_[adapter]->Contains(row);
  }
  bool IsComing(Row row, size_t adapter) const {
    return workers_.IsComing(row, request_.adapters[adapter].digest, now_);
  }
  uint32_t warm_blocks(Row row) const { return warm_blocks_[row]; }

  // Whether the worker is for all experts of the request.
  bool Serves(Row row) {
    const uint32_t number = at(row).serves;
    if (number == 0) return true;
    Match& match = serves_[number - 1];
    if (match == Match::kUnknown) match = MatchAll(number) ? Match::kYes : Match::kNo;
    return match == Match::kYes;
  }

 private:
  enum class Match : uint8_t { kUnknown, kYes, kNo };
  bool MatchAll(uint32_t number) const {
    for (const PlacementRequest::Adapter& adapter : request_.adapters) {
      if (!workers_.Serves(number, adapter.name)) return false;
    }
    return true;
  }

  const PlacementRequest& request_;
  const WorkerTable& workers_;
  const MonotonicTime now_;
  std::vector<const RowSet*> holders_;  // [adapters]
  std::vector<uint32_t> warm_blocks_;   // [rows]
  std::vector<Match> serves_;           // [lists of patterns]
};

}  // namespace coterie::router_internal

#endif  // COTERIE_ROUTER_PLACEMENT_LOOKUP_H_
