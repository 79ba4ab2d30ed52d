#ifndef COTERIE_GATEWAY_UPSTREAM_GANG_H_
#define COTERIE_GATEWAY_UPSTREAM_GANG_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "gateway/upstream/sequence_home.h"
#include "gateway/upstream/worker_link.h"

namespace coterie::gateway {

// Several workers that answer one mixture together: the first, the leader, draws the tokens and is heard; the
// others compute their members' rows and tell them the leader, not us. Whatever happens to one of them is
// told as a loss of the sequence, which then goes on wherever its members are. Holds one sequence.
// Thread-safe.
class Gang final : public SequenceHome, public SequenceObserver, public std::enable_shared_from_this<Gang> {
 public:
  struct Part {
    std::shared_ptr<WorkerLink> link;
    std::string worker;
    std::vector<uint32_t> members;  // of the mixture, ascending
  };
  // `parts`: the leader's first; each member once. `next_id` draws sequence ids.
  Gang(std::vector<Part> parts, uint32_t top_tokens, std::function<uint64_t()> next_id)
      : parts_(std::move(parts)), top_tokens_(top_tokens), next_id_(std::move(next_id)) {}

  // An error names the worker that cannot take its part (LostWorker).
  Status Submit(uint64_t sequence_id, const SequenceRequest& request,
                std::shared_ptr<SequenceObserver> observer) override;
  void Cancel(uint64_t sequence_id) override;
  void Grant(uint64_t sequence_id, uint32_t tokens) override;

  // Of the followers.
  void OnOutput(SequenceOutput output) override;
  void OnWorkerSuspect(uint64_t sequence_id) override {}
  void OnReattached(uint64_t sequence_id) override {}
  void OnWorkerLost(uint64_t sequence_id, const WorkerLoss& loss) override;

 private:
  // What the worker of `rank` is to compute of `request`.
  SequenceRequest PartOf(const SequenceRequest& request, const GangPlan& plan, uint32_t rank) const;
  StatusOr<GangPlan> MakePlan(uint64_t sequence_id, const SequenceRequest& request) const;
  // Whoever follows the whole sequence, with its id, as long as it goes on.
  std::shared_ptr<SequenceObserver> Observer(uint64_t* sequence_id);
  std::string WorkerOf(uint64_t follower_id);

  const std::vector<Part> parts_;
  const uint32_t top_tokens_;
  const std::function<uint64_t()> next_id_;

  Mutex mutex_;
  uint64_t sequence_id_ ABSL_GUARDED_BY(mutex_) = 0;                    // the leader's; 0: given up
  std::vector<uint64_t> follower_ids_ ABSL_GUARDED_BY(mutex_);          // by rank, from 1 on
  std::shared_ptr<SequenceObserver> observer_ ABSL_GUARDED_BY(mutex_);  // until it is given up
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_GANG_H_
