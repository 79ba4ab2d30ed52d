#ifndef COTERIE_GATEWAY_UPSTREAM_SEQUENCE_OBSERVER_H_
#define COTERIE_GATEWAY_UPSTREAM_SEQUENCE_OBSERVER_H_

#include <cstdint>

#include "gateway/upstream/sequence.h"

namespace coterie::gateway {

struct WorkerLoss {
  Status why;
  // The worker said before that it would go, or was taken out of use here: nobody failed.
  bool planned = false;
};

// Follows one sequence on one worker. Called with no lock of the link held: outputs and re-attachments from
// gRPC's threads in order, the other two from the placement pool. A call for an id that the observer has
// given up may still arrive.
class SequenceObserver {
 public:
  virtual ~SequenceObserver() = default;
  // An output with finish set is the last call for this id.
  virtual void OnOutput(SequenceOutput output) = 0;
  // The worker may be about to be lost: its connection broke, or it has been silent for half of what is
  // allowed. What follows is OnReattached, OnWorkerLost, or output as if nothing had been.
  virtual void OnWorkerSuspect(uint64_t sequence_id) = 0;
  // The connection broke and was taken up again; nothing was lost.
  virtual void OnReattached(uint64_t sequence_id) = 0;
  // The worker is gone and so is the sequence's state there; the last call for this id.
  virtual void OnWorkerLost(uint64_t sequence_id, const WorkerLoss& loss) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_SEQUENCE_OBSERVER_H_
