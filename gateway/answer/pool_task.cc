#include "gateway/answer/pool_task.h"

#include <utility>

#include "gateway/access/retry_delay.h"

namespace coterie::gateway {

std::shared_ptr<PoolTask> PoolTask::Create(const GatewayCore* core, const char* rpc, RequestContext context,
                                           Work work, Callback done) {
  return std::shared_ptr<PoolTask>(
      new PoolTask(core, rpc, std::move(context), std::move(work), std::move(done)));
}

PoolTask::PoolTask(const GatewayCore* core, const char* rpc, RequestContext context, Work work, Callback done)
    : AdmittedTask(core, rpc, Admission::Kind::kRoute, 1, std::move(context),
                   MonotonicTime::InfiniteFuture()),
      work_(std::move(work)),
      done_callback_(std::move(done)) {}

void PoolTask::Run() {
  const auto self = std::static_pointer_cast<PoolTask>(shared_from_this());
  const Status status = core_->compute->Submit([self] {
    if (self->over_.is_set()) return;
    const Status worked = self->work_();
    MutexLock lock(&self->mutex_);
    self->EndLocked(worked);
  });
  if (!status.ok()) Fail(WithRetryDelay(status, core_->admission->RetryDelayNow(Admission::Kind::kRoute)));
}

void PoolTask::Ended(const Status& status) {
  const Callback done = std::move(done_callback_);
  done_callback_ = nullptr;
  done(status);
}

}  // namespace coterie::gateway
