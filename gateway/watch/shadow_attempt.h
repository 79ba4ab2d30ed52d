#ifndef COTERIE_GATEWAY_WATCH_SHADOW_ATTEMPT_H_
#define COTERIE_GATEWAY_WATCH_SHADOW_ATTEMPT_H_

#include <memory>
#include <vector>

#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/core/gateway_core.h"
#include "gateway/upstream/session.h"

namespace coterie::gateway {

// One prompt scored under one adapter: a sequence that generates nothing, as Score's, at the lowest priority
// and past admission, metrics and tenants' shares, since nobody asked for it. Thread-safe.
class ShadowAttempt final : public SessionListener, public std::enable_shared_from_this<ShadowAttempt> {
 public:
  // Scores prompt_ids from position `from` on, in [1, size). Empty `adapter`: the base. It ends by itself, at
  // `deadline` at the latest.
  static std::shared_ptr<ShadowAttempt> Start(const GatewayCore* core, const std::vector<int32_t>& prompt_ids,
                                              size_t from, const PlacementRequest::Adapter& adapter,
                                              MonotonicTime deadline);

  // Ends it at once, if it has not ended: it is Cancelled.
  void GiveUp();
  // Waits for the end for at most `timeout`; true when it has come.
  bool WaitFor(absl::Duration timeout);
  // After the end: the mean loss of the scored tokens, in nats, or why there is none.
  StatusOr<double> loss() const;

  void OnPlaced(const SessionPlacement& placement) override {}
  void OnStarted(uint32_t cached_prompt_tokens, absl::Duration queued) override {}
  void OnPromptLogprobs(std::vector<PositionLogprobs>&& logprobs) override;
  void OnPromptLogprobsVoid() override;
  bool OnTokens(std::span<const int32_t> ids, std::vector<PositionLogprobs>&& logprobs) override {
    return true;
  }
  void OnEnd(const SessionEnd& end) override;

 private:
  explicit ShadowAttempt(size_t n_expected) : n_expected_(n_expected) {}

  const size_t n_expected_;  // scored tokens
  mutable Mutex mutex_;
  CondVar ended_;
  std::shared_ptr<Session> session_ ABSL_GUARDED_BY(mutex_);
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  Status outcome_ ABSL_GUARDED_BY(mutex_);
  size_t n_scored_ ABSL_GUARDED_BY(mutex_) = 0;
  double total_logprob_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_WATCH_SHADOW_ATTEMPT_H_
