#ifndef COTERIE_GATEWAY_WATCH_SHADOW_TRAFFIC_H_
#define COTERIE_GATEWAY_WATCH_SHADOW_TRAFFIC_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "gateway/core/gateway_core.h"
#include "gateway/core/request.h"
#include "gateway/watch/shadow_attempt.h"
#include "router/regret.h"

namespace coterie::gateway {

struct ShadowOptions {
  double share = 0.01;          // of the requests that the router gave to one expert; 0: none
  uint32_t max_tokens = 256;    // of a prompt, its first ones; at least 2
  size_t max_waiting = 64;      // prompts kept; the newest is dropped when there are more
  size_t max_experts = 10'000;  // whose regret is kept
  absl::Duration poll = absl::Milliseconds(50);  // how often it looks whether the workers are idle
  // How long nothing may have come before it begins: a step under way on a worker cannot be stopped, and the
  // next request of somebody who asks one after the other would wait for it.
  absl::Duration quiet = absl::Milliseconds(500);
  absl::Duration max_age = absl::Minutes(10);  // of a prompt that waits
};

// What the router's choices cost, from a share of the real prompts: while no worker has anything to do, a
// prompt is scored under the chosen expert (live version), its canary, the runner-up and the base. Only
// prompts, never answers, which favour whoever wrote them. Prompts live in memory until they are scored, a
// few at a time, and go into no log, metric or file; those of requests with a cache salt, or that ask for it,
// are never taken. Scoring ends the moment a request comes, and goes on later. Thread-safe.
class ShadowTraffic {
 public:
  struct Counts {
    uint64_t scored = 0;
    uint64_t dropped = 0;    // too many waited
    uint64_t abandoned = 0;  // gave way too often, or waited too long
    uint64_t failed = 0;     // could not be scored: a version is gone, a worker was lost
  };
  // InvalidArgument naming the option. `core` is borrowed and must be filled in before the first Offer.
  static Status Validate(const ShadowOptions& options);
  ShadowTraffic(const GatewayCore* core, const ShadowOptions& options);
  ~ShadowTraffic();  // as Stop

  // Whether the prompt of such a request should be offered, once it is routed: it falls into the share and
  // nobody objects.
  bool Wants(const RequestContext& context);
  // A prompt whose question stands at [question_begin, question_end); taken where one expert was chosen and
  // the question has tokens among the first max_tokens.
  void Offer(const Decision& decision, std::span<const int32_t> prompt_ids, size_t question_begin,
             size_t question_end);
  // A request has come: what is being scored makes way. Takes no lock while nothing is.
  void MakeWay();
  // Nothing is taken or scored from here on.
  void Stop();

  Counts counts() const;
  size_t waiting() const;
  // What was learnt of the expert's present versions; nothing of one that was replaced or withdrawn since.
  ExpertRegret Of(const CatalogueEntry& entry) const;
  // Of all experts of `catalogue` of whom anything was learnt, those with the most prompts first.
  struct Seen {
    std::shared_ptr<const CatalogueEntry> entry;
    ExpertRegret regret;
  };
  std::vector<Seen> All(const Catalogue& catalogue) const;

 private:
  struct Sample {
    std::string expert;
    std::vector<int32_t> prompt_ids;  // to the question's end
    size_t question_begin = 0;        // what is scored begins here, at 1 at least
    // The chosen expert, the base, then the runner-up and the canary where they are.
    std::vector<PlacementRequest::Adapter> under;
    bool has_runner_up = false;
    bool has_canary = false;
    std::vector<double> losses;  // of the first of `under`
    int n_given_way = 0;
    MonotonicTime taken;
  };
  struct Learnt {
    Digest live;
    std::optional<Digest> canary;
    ExpertRegret regret;  // of these two versions
  };

  void Run();
  // True when nothing runs or waits, here or at any worker that is ready, and one is, and nothing came for a
  // while.
  bool Idle() const;
  // Whether a worker has something to do besides what we gave it.
  bool OthersWork() const;
  // Scores `sample` as far as it gets; what becomes of it.
  enum class Outcome { kScored, kGaveWay, kFailed };
  Outcome Score(Sample* sample);
  StatusOr<double> ScoreOne(const Sample& sample, const PlacementRequest::Adapter& adapter);
  void Learn(const Sample& sample);

  const GatewayCore* const core_;
  const ShadowOptions options_;
  std::atomic<uint64_t> n_drawn_;
  std::atomic<bool> scoring_ = false;
  std::atomic<int64_t> last_request_ns_ = 0;  // Unix time

  mutable Mutex mutex_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool make_way_ ABSL_GUARDED_BY(mutex_) = false;
  std::shared_ptr<ShadowAttempt> attempt_ ABSL_GUARDED_BY(mutex_);  // under way
  std::deque<Sample> waiting_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Learnt> learnt_ ABSL_GUARDED_BY(mutex_);
  Counts counts_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_WATCH_SHADOW_TRAFFIC_H_
