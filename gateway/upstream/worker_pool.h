#ifndef COTERIE_GATEWAY_UPSTREAM_WORKER_POOL_H_
#define COTERIE_GATEWAY_UPSTREAM_WORKER_POOL_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "gateway/runtime/work_pool.h"
#include "gateway/upstream/worker_board.h"
#include "gateway/upstream/worker_directory.h"
#include "gateway/upstream/worker_link.h"
#include "router/placement.h"

namespace coterie::gateway {

// All the workers this gateway knows: a link to each, and the choice among them. Thread-safe.
class WorkerPool {
 public:
  struct Options {
    WorkerLinkOptions link;
    PlacementOptions placement;
    absl::Duration resolve_interval = absl::Seconds(5);  // of a name; a list is read once
    // Of a mixture over several workers: how many of its largest logits each row tells the worker that draws;
    // 0: all of them (GangPlan).
    uint32_t gang_top_tokens = 0;
  };
  struct Placed {
    std::shared_ptr<SequenceHome> home;
    std::string worker;          // that is heard, for people
    std::string numerics_class;  // of several workers all, unless they are of one
    bool batch_invariant = true;
    uint64_t room_tokens = 0;
    std::string reason;
  };

  // InvalidArgument naming the placement option that is out of bounds.
  static StatusOr<std::unique_ptr<WorkerPool>> Start(Options options, WorkerDirectory directory,
                                                     TimerQueue* timers);
  ~WorkerPool();  // as Stop
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Unavailable, saying of each worker why it cannot be used, when none can at this moment; the errors that
  // need no second try are Placer::Place's. A mixture that no worker can hold is placed on several, which
  // answer it together; where even so members have no home, the error is of one of them, and `homeless` gets
  // them all.
  StatusOr<Placed> Place(const PlacementRequest& request, std::vector<uint32_t>* homeless);

  // Runs `job` on the placement pool: what places a sequence anew does so there, never on the threads that
  // carry streams and heartbeats, of which hundreds of placements would be the end. As WorkPool::Submit.
  Status Later(std::function<void()> job) { return placement_pool_->Submit(std::move(job)); }

  // Has the worker that `request` would get at this moment load the request's adapters ahead. A hint: it
  // costs a placement, and an adapter that is loaded for nothing where the request goes elsewhere after all.
  void Prefetch(const PlacementRequest& request);
  // Hints sent.
  uint64_t prefetches() const { return n_prefetches_.load(std::memory_order_relaxed); }

  std::vector<WorkerReport> Report() const;
  // Ids of the workers that hold all these adapters in device slots.
  std::vector<std::string> Holders(std::span<const Digest> adapters) const;
  size_t ready() const;
  // Sequences that all workers take together, those that wait or stand still included; 0: none has said so.
  // May be called when the pool is gone.
  std::function<uint64_t()> CapacityReader() const {
    return [board = board_] { return board->Capacity(); };
  }
  // Never given twice by this gateway, nor, in practice, by another one.
  uint64_t NextSequenceId() { return next_sequence_id_.fetch_add(1, std::memory_order_relaxed); }

  // Ends every link; sequences are lost. Returns when the last connection is closed and everybody was told.
  void Stop();

 private:
  WorkerPool(Options options, WorkerDirectory directory, const Placer& placer, TimerQueue* timers);
  StatusOr<Placed> PlaceTogether(const PlacementRequest& request, const Status& alone,
                                 std::vector<uint32_t>* homeless);
  void FollowName();
  void Adopt(const std::vector<std::string>& addresses);
  std::vector<std::shared_ptr<WorkerLink>> Links() const;

  const Options options_;
  const WorkerDirectory directory_;
  const Placer placer_;
  TimerQueue* const timers_;
  std::atomic<uint64_t> next_sequence_id_;
  std::atomic<uint64_t> n_prefetches_ = 0;
  StreamThreads streams_;
  // Shared with the links, which timers may outlive by a moment. One thread: news come in order, and 256 lost
  // sequences are placed in milliseconds.
  const std::shared_ptr<WorkPool> placement_pool_;
  const std::shared_ptr<WorkerBoard> board_ = std::make_shared<WorkerBoard>();  // likewise

  mutable Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::string resolve_error_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::shared_ptr<WorkerLink>> links_ ABSL_GUARDED_BY(mutex_);  // by address
  std::thread resolver_;  // when the directory changes
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_WORKER_POOL_H_
