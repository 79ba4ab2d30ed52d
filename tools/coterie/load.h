#ifndef COTERIE_TOOLS_COTERIE_LOAD_H_
#define COTERIE_TOOLS_COTERIE_LOAD_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coterie/v1/generation.pb.h"
#include "tools/client/client.h"
#include "tools/coterie/load_plan.h"

namespace coterie::command {

// One answer as the client saw it. Times in seconds since the request was meant to start: what a person waits
// when the client itself comes too late counts as well (no coordinated omission).
struct Sample {
  std::string expert;  // who answered: a name, or "base"
  std::string worker;
  absl::Status status;
  double start_seconds = 0;    // when it was meant to start, since the first measured request could
  double late_seconds = 0;     // how much later it was sent: at the limit of requests in flight
  double routing_seconds = 0;  // embedding and search, as the gateway says; part of the time to first token
  double first_token_seconds = 0;
  double last_token_seconds = 0;
  double total_seconds = 0;
  std::vector<double> gap_seconds;  // between messages that carried tokens
  uint32_t prompt_tokens = 0;
  uint32_t cached_prompt_tokens = 0;
  uint32_t completion_tokens = 0;

  // Mean time of a token after the first; 0 with less than two.
  double seconds_per_token() const {
    return completion_tokens > 1 ? (last_token_seconds - first_token_seconds) / (completion_tokens - 1) : 0;
  }
};

struct LoadOptions {
  bool open = false;    // each starts at its planned time; else when an earlier one has ended (closed loop)
  int max_running = 4;  // in flight at any time. Closed: always so many. Open: beyond it they start late.
  int n_warmup = 0;     // the first of the plan: not measured, always a closed loop
  absl::Duration timeout = absl::InfiniteDuration();  // of one request, from when it is sent
};

// What a progress line shows while RunLoad runs. Any thread may read it.
struct LoadProgress {
  std::atomic<int> running = 0, done = 0, failed = 0;
  std::atomic<uint64_t> completion_tokens = 0;
};

struct LoadResult {
  std::vector<Sample> samples;  // in no order
  double wall_seconds = 0;      // from the first measured request's start to the last one's end
};

// Sends the plan's requests over one client, and returns when all have ended; early when `cancellation` is
// cancelled. `progress` counts the measured ones.
LoadResult RunLoad(client::Client* client, const client::Cancellation& cancellation,
                   const LoadOptions& options, std::span<const PlannedRequest> plan,
                   const std::function<v1::GenerateRequest(const PlannedRequest&)>& make_request,
                   LoadProgress* progress);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_LOAD_H_
