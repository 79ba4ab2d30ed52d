#ifndef COTERIE_GATEWAY_GRPC_GENERATE_CALL_H_
#define COTERIE_GATEWAY_GRPC_GENERATE_CALL_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>

#include "common/clock.h"
#include "common/mutex.h"
#include "coterie/v1/generation.pb.h"
#include "gateway/answer/event_queue.h"
#include "gateway/answer/generation.h"
#include "gateway/core/gateway_core.h"

namespace coterie::gateway {

// One Generate stream: writes the answer's events as fast as the client reads. What it has not read yet waits
// here, as one text event; credit bounds it, since tokens are acknowledged only when they were written. A
// client that reads nothing at all is cut off after a while, whether its answer still grows or has ended.
// Lives until gRPC lets go of it.
class GenerateCall final : public grpc::ServerWriteReactor<v1::GenerateResponse>,
                           public AnswerSink,
                           public std::enable_shared_from_this<GenerateCall> {
 public:
  static grpc::ServerWriteReactor<v1::GenerateResponse>* Start(const GatewayCore* core,
                                                               grpc::CallbackServerContext* context,
                                                               const v1::GenerateRequest& request);

  void OnEvent(AnswerEvent event) override;
  void OnAnswerEnd(const Status& status) override;

 private:
  explicit GenerateCall(const GatewayCore* core) : core_(core) {}

  void Begin(grpc::CallbackServerContext* context, const v1::GenerateRequest& request);
  // Writes the next event, or finishes, if nothing is being written.
  void PumpLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the call of a client that reads nothing for too long.
  void WatchStall();

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

  const GatewayCore* const core_;
  grpc::CallbackServerContext* context_ = nullptr;  // gRPC's, until OnDone
  std::shared_ptr<GenerateCall> self_;              // until OnDone
  std::shared_ptr<Generation> generation_;          // set before it begins

  Mutex mutex_;
  EventQueue pending_ ABSL_GUARDED_BY(mutex_);
  std::optional<Status> end_ ABSL_GUARDED_BY(mutex_);
  v1::GenerateResponse writing_ ABSL_GUARDED_BY(mutex_);
  bool is_writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t tokens_in_write_ ABSL_GUARDED_BY(mutex_) = 0;
  MonotonicTime write_began_ ABSL_GUARDED_BY(mutex_);
  TimerQueue::Id stall_timer_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_GENERATE_CALL_H_
