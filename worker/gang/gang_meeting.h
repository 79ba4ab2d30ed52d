#ifndef COTERIE_WORKER_GANG_GANG_MEETING_H_
#define COTERIE_WORKER_GANG_GANG_MEETING_H_

#include <memory>

#include "absl/time/time.h"
#include "common/gang_plan.h"
#include "common/status.h"
#include "kernels/comm/abort_flag.h"
#include "kernels/comm/communicator.h"

namespace coterie {

// How the workers of a gang reach each other. Thread-safe.
class GangMeeting {
 public:
  virtual ~GangMeeting() = default;
  // Lets the others meet here, where this worker leads; before they are told of the gang.
  virtual Status Open(const GangPlan& plan) = 0;
  // Returns when all are connected, with an error at the latest after `timeout`, or when `abort` is raised.
  virtual StatusOr<std::unique_ptr<Communicator>> Join(const GangPlan& plan, absl::Duration timeout,
                                                       std::shared_ptr<AbortFlag> abort) = 0;
  // The gang is over here.
  virtual void Close(const GangPlan& plan) = 0;
};

// The names of the workers by rank, as CommunicatorOptions wants them.
CommunicatorOptions CommunicatorOf(const GangPlan& plan, absl::Duration timeout,
                                   std::shared_ptr<AbortFlag> abort);

}  // namespace coterie

#endif  // COTERIE_WORKER_GANG_GANG_MEETING_H_
