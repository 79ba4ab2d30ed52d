#include "worker/gang/gang_meeting.h"

#include <utility>

namespace coterie {

CommunicatorOptions CommunicatorOf(const GangPlan& plan, absl::Duration timeout,
                                   std::shared_ptr<AbortFlag> abort) {
  CommunicatorOptions options;
  options.group = plan.group;
  options.epoch = 1;  // what is lost is formed again as another group
  options.rank = static_cast<int>(plan.rank);
  for (const GangWorker& worker : plan.workers) options.members.push_back(worker.name);
  options.form_timeout = timeout;
  options.abort = std::move(abort);
  return options;
}

}  // namespace coterie
