#ifndef COTERIE_GATEWAY_ANSWER_POOL_TASK_H_
#define COTERIE_GATEWAY_ANSWER_POOL_TASK_H_

#include <functional>
#include <memory>

#include "gateway/answer/admitted_task.h"

namespace coterie::gateway {

// Work that takes the gateway's own cores once and for a moment, such as tokenising a text. It shares the
// places of routes.
class PoolTask final : public AdmittedTask {
 public:
  using Work = std::function<Status()>;
  using Callback = std::function<void(const Status&)>;
  // `work` runs on the pool, unless Cancel or the deadline comes first; then `done` is called with what came
  // of it, once, unless Cancel comes first. It must not wait. `rpc` is a literal.
  static std::shared_ptr<PoolTask> Create(const GatewayCore* core, const char* rpc, RequestContext context,
                                          Work work, Callback done);

 private:
  PoolTask(const GatewayCore* core, const char* rpc, RequestContext context, Work work, Callback done);

  void Run() override;
  void Ended(const Status& status) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Work work_;
  Callback done_callback_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_POOL_TASK_H_
