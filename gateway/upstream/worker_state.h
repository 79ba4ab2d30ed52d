#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "common/clock.h"
#include "gateway/upstream/measured_rate.h"
#include "gateway/upstream/worker_board.h"
#include "gateway/upstream/worker_info.h"

namespace coterie::gateway {

// What of a worker's standing its link knows.
struct WorkerStanding {
  MonotonicTime alive_until = MonotonicTime::InfinitePast();    // takes new work until then
  MonotonicTime ejected_until = MonotonicTime::InfinitePast();  // see OutlierWatch
  bool refused = false;
  uint32_t assigned = 0;  // sequences of this gateway that take part in its steps
};

// Folds a worker's messages into its row of the board, which it has from the beginning to Leave or its own
// end. Not thread-safe: the link's lock guards it.
class WorkerStateFold {
 public:
  // `id` stands for the worker until it has said its own.
  WorkerStateFold(std::shared_ptr<WorkerBoard> board, std::string id)
      : board_(std::move(board)), id_(std::move(id)), row_(board_->Add(id_)) {}
  ~WorkerStateFold() { Leave(); }
  WorkerStateFold(const WorkerStateFold&) = delete;
  WorkerStateFold& operator=(const WorkerStateFold&) = delete;

  // Who leads there; before Stand.
  void SetLink(std::weak_ptr<WorkerLink> link) { board_->SetLink(row_, std::move(link)); }
  // What its Hello says; kept over Reset.
  void Identify(const WorkerIdentity& identity);
  // Forgets all that Apply and Expect brought, but for the bytes between workers.
  void Reset();
  void Apply(WorkerStateUpdate update);
  void Stand(const WorkerStanding& standing);
  // Gives up the row: nothing is placed here any more, and the calls above do nothing.
  void Leave();

  // WorkerTable::Expect.
  bool Expect(const Digest& adapter, MonotonicTime now);
  bool Holds(const Digest& adapter) const;
  // As last applied; the bytes between workers are the sum over all incarnations of the worker, which never
  // falls.
  const WorkerStateUpdate& levels() const { return levels_; }

 private:
  void WriteLevels();
  void ForgetPrefixes();
  uint64_t NewBytes(uint64_t said);

  const std::shared_ptr<WorkerBoard> board_;
  const std::string id_;
  const WorkerBoard::Row row_;
  bool left_ = false;
  std::string incarnation_;       // of the identity
  uint32_t kv_blocks_ = 0;        // likewise
  uint32_t all_places_ = 0;       // likewise: of all gateways together
  WorkerStateUpdate levels_;      // change lists empty
  uint64_t last_said_bytes_ = 0;  // bytes between workers, as this incarnation last said
  MeasuredRate decode_rate_{WorkerRow().decode_tokens_per_second, 0.01, 1e7};  // measured under load
  MeasuredRate prefill_rate_{WorkerRow().prefill_tokens_per_second, 1, 1e7};
  MeasuredRate load_rate_{PlacementOptions().load_bytes_per_second, 1e5, 1e12};
  MeasuredRate answer_tokens_{PlacementOptions().mean_answer_tokens, 1, 1e6};
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_STATE_H_
