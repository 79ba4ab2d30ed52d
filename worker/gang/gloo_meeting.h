#ifndef COTERIE_WORKER_GANG_GLOO_MEETING_H_
#define COTERIE_WORKER_GANG_GLOO_MEETING_H_

#include <memory>

#include "worker/gang/gang_meeting.h"

namespace coterie::worker {

class RendezvousServiceImpl;

// Gangs of processes: they find each other at the leader's RendezvousService and talk by Gloo, over TCP and
// without encryption.
class GlooMeeting final : public GangMeeting {
 public:
  // `service` is borrowed, and served where GangPlan has this worker's address.
  explicit GlooMeeting(RendezvousServiceImpl* service) : service_(service) {}

  Status Open(const GangPlan& plan) override;
  StatusOr<std::unique_ptr<Communicator>> Join(const GangPlan& plan, absl::Duration timeout,
                                               std::shared_ptr<AbortFlag> abort) override;
  void Close(const GangPlan& plan) override;

 private:
  RendezvousServiceImpl* const service_;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_GANG_GLOO_MEETING_H_
