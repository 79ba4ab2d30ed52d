#include "gateway/upstream/gang.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "common/check.h"
#include "common/lost_worker.h"
#include "common/shared_secret.h"

namespace coterie::gateway {

StatusOr<GangPlan> Gang::MakePlan(uint64_t sequence_id, const SequenceRequest& request) const {
  GangPlan plan;
  plan.group = absl::StrCat("sequence-", sequence_id);
  plan.token = absl::BytesToHexString(SharedSecret::DrawNonce());
  plan.top_tokens = top_tokens_;
  for (const MixtureMember& member : request.mixture) plan.weights.push_back(member.weight);
  for (const Part& part : parts_) {
    const std::string address = part.link->numeric_address();
    if (address.empty()) {
      return MarkLostWorker(absl::UnavailableError(absl::StrCat("worker ", part.worker, " has just left")),
                            part.worker);
    }
    plan.workers.push_back({part.worker, address, part.members});
  }
  return plan;
}

SequenceRequest Gang::PartOf(const SequenceRequest& request, const GangPlan& plan, uint32_t rank) const {
  SequenceRequest part = request;
  part.adapters.clear();
  part.mixture.clear();
  for (const uint32_t member : parts_[rank].members) {
    // Each member has one adapter (Task::PlanLocked).
    part.adapters.push_back(request.adapters[member]);
    part.mixture.push_back(request.mixture[member]);
  }
  part.gang = plan;
  part.gang->rank = rank;
  if (rank > 0) part.initial_credit = kMaxCredit;  // it is the leader that waits for the reader
  return part;
}

Status Gang::Submit(uint64_t sequence_id, const SequenceRequest& request,
                    std::shared_ptr<SequenceObserver> observer) {
  COTERIE_CHECK_EQ(request.adapters.size(), request.mixture.size()) << "a member has one adapter";
  ASSIGN_OR_RETURN(const GangPlan plan, MakePlan(sequence_id, request));
  std::vector<uint64_t> ids;
  for (size_t rank = 1; rank < parts_.size(); ++rank) ids.push_back(next_id_());
  {
    MutexLock lock(&mutex_);
    sequence_id_ = sequence_id;
    follower_ids_ = ids;
    observer_ = observer;
  }
  for (uint32_t rank = 0; rank < parts_.size(); ++rank) {
    // The leader is heard by whoever follows the whole sequence.
    const Status status =
        rank == 0 ? parts_[0].link->Submit(sequence_id, PartOf(request, plan, 0), std::move(observer))
                  : parts_[rank].link->Submit(ids[rank - 1], PartOf(request, plan, rank), shared_from_this());
    if (status.ok()) continue;
    Cancel(sequence_id);
    return MarkLostWorker(status, parts_[rank].worker);
  }
  return absl::OkStatus();
}

void Gang::Cancel(uint64_t sequence_id) {
  std::shared_ptr<SequenceObserver> observer;  // released after the lock
  std::vector<uint64_t> ids;
  {
    MutexLock lock(&mutex_);
    if (sequence_id_ != sequence_id) return;
    sequence_id_ = 0;
    ids = std::move(follower_ids_);
    follower_ids_.clear();
    observer = std::move(observer_);
  }
  parts_[0].link->Cancel(sequence_id);
  for (size_t i = 0; i < ids.size(); ++i) parts_[i + 1].link->Cancel(ids[i]);
}

void Gang::Grant(uint64_t sequence_id, uint32_t tokens) { parts_[0].link->Grant(sequence_id, tokens); }

std::shared_ptr<SequenceObserver> Gang::Observer(uint64_t* sequence_id) {
  MutexLock lock(&mutex_);
  *sequence_id = sequence_id_;
  return observer_;
}

std::string Gang::WorkerOf(uint64_t follower_id) {
  MutexLock lock(&mutex_);
  const auto found = std::find(follower_ids_.begin(), follower_ids_.end(), follower_id);
  return found == follower_ids_.end() ? ""
                                      : parts_[static_cast<size_t>(found - follower_ids_.begin()) + 1].worker;
}

void Gang::OnOutput(SequenceOutput output) {
  // Of a member's tokens the leader's are the original, and that a gang is over the leader says, with the
  // reason.
  if (output.finish != FinishReason::kError || absl::IsAborted(output.error)) return;
  const std::string worker = WorkerOf(output.sequence_id);
  const std::shared_ptr<SequenceObserver> observer = Observer(&output.sequence_id);
  if (observer == nullptr || worker.empty()) return;
  output.error = MarkLostWorker(Annotate(output.error, absl::StrCat("worker ", worker)), worker);
  observer->OnOutput(std::move(output));
}

void Gang::OnWorkerLost(uint64_t sequence_id, const WorkerLoss& loss) {
  uint64_t whole = 0;
  const std::shared_ptr<SequenceObserver> observer = Observer(&whole);
  if (observer != nullptr) observer->OnWorkerLost(whole, loss);
}

}  // namespace coterie::gateway
