#include "worker/gang/gloo_meeting.h"

#include <chrono>
#include <string>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "kernels/comm/gloo.h"
#include "worker/rendezvous/rendezvous_client.h"
#include "worker/rendezvous/rendezvous_service.h"

namespace coterie::worker {
namespace {

// Of "10.0.0.3:7601" or "[fd00::3]:7601".
std::string HostOf(const std::string& address) {
  std::string host = address.substr(0, address.rfind(':'));
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return host;
}

}  // namespace

Status GlooMeeting::Open(const GangPlan& plan) { return service_->Open(plan.group, plan.token); }

void GlooMeeting::Close(const GangPlan& plan) {
  if (plan.rank == 0) service_->Close(plan.group);
}

StatusOr<std::unique_ptr<Communicator>> GlooMeeting::Join(const GangPlan& plan, absl::Duration timeout,
                                                          std::shared_ptr<AbortFlag> abort) {
  const GlooOptions gloo{HostOf(plan.workers[plan.rank].address)};
  if (plan.rank == 0) {
    return CreateGlooCommunicator(gloo, service_->local(), CommunicatorOf(plan, timeout, std::move(abort)));
  }
  const MonotonicTime until = MonotonicNow() + timeout;
  while (true) {
    RendezvousClientOptions client;
    client.address = plan.workers[0].address;
    client.token = plan.token;
    client.server = absl::StrCat("the gang's leader ", plan.workers[0].name);
    StatusOr<std::unique_ptr<Communicator>> joined = CreateGlooCommunicator(
        gloo, std::make_shared<RendezvousClient>(std::move(client)),
        CommunicatorOf(plan, std::max(absl::Milliseconds(1), until - MonotonicNow()), abort));
    // The gateway tells all members at once: the leader may not have heard yet.
    constexpr absl::Duration kAgain = absl::Milliseconds(20);
    if (!absl::IsPermissionDenied(joined.status()) || abort->raised() || MonotonicNow() + kAgain > until) {
      return joined;
    }
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(kAgain));
  }
}

}  // namespace coterie::worker
