#ifndef COTERIE_GATEWAY_UPSTREAM_SEQUENCE_HOME_H_
#define COTERIE_GATEWAY_UPSTREAM_SEQUENCE_HOME_H_

#include <cstdint>
#include <memory>

#include "common/sequence.h"
#include "common/status.h"
#include "gateway/upstream/sequence_observer.h"

namespace coterie::gateway {

// Where a sequence can run: one worker (WorkerLink), or several that answer it together (Gang). Thread-safe.
class SequenceHome {
 public:
  virtual ~SequenceHome() = default;
  // Unavailable when it cannot be taken at this moment; the observer is then not called.
  virtual Status Submit(uint64_t sequence_id, const SequenceRequest& request,
                        std::shared_ptr<SequenceObserver> observer) = 0;
  // The sequence is forgotten here at once and at the worker soon. Unknown ids are ignored.
  virtual void Cancel(uint64_t sequence_id) = 0;
  // The worker may send `tokens` more.
  virtual void Grant(uint64_t sequence_id, uint32_t tokens) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_SEQUENCE_HOME_H_
