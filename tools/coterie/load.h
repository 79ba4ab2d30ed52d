#ifndef COTERIE_TOOLS_COTERIE_LOAD_H_
#define COTERIE_TOOLS_COTERIE_LOAD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "coterie/v1/generation.pb.h"
#include "tools/client/client.h"

namespace coterie::command {

// One answer as the client saw it. Times in seconds since the request was sent.
struct Sample {
  std::string expert;  // who answered: a name, or "base"
  std::string worker;
  absl::Status status;
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
  int concurrency = 4;  // requests in flight at any time: a new one starts when one ends (closed loop)
  int n_requests = 32;  // measured ones
  int n_warmup = 4;     // before them, not counted
};

struct LoadResult {
  std::vector<Sample> samples;
  double wall_seconds = 0;  // from the first measured request's start to the last one's end
};

// Sends MakeRequest(i) for i = 0, 1, ... (warm-up first) over one client. Ends early when the client's
// cancellation is cancelled.
LoadResult RunClosedLoop(client::Client* client, const client::Cancellation* cancellation,
                         const LoadOptions& options,
                         const std::function<v1::GenerateRequest(int)>& make_request);

// Nearest-rank percentiles; zeros without values.
struct Percentiles {
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
  static Percentiles Of(std::vector<double> values);
};

// `n_words` words of plain English-like filler, another text for every `index`: equal prompts would only
// measure the prefix cache.
std::string FillerText(int index, int n_words);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_LOAD_H_
