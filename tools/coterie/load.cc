#include "tools/coterie/load.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <thread>

#include "absl/time/clock.h"
#include "common/mutex.h"

namespace coterie::command {
namespace {

Sample Measure(client::Client* client, const v1::GenerateRequest& request) {
  Sample sample;
  const absl::Time begin = absl::Now();
  const auto elapsed = [begin] { return absl::ToDoubleSeconds(absl::Now() - begin); };
  bool started = false;
  sample.status = client->Generate(request, absl::InfiniteDuration(), [&](const v1::GenerateResponse& event) {
    if (event.has_route()) {
      sample.expert = event.route().experts().empty() ? "base" : event.route().experts(0).name();
    } else if (event.has_delta()) {
      const double now = elapsed();
      if (started) sample.gap_seconds.push_back(now - sample.last_token_seconds);
      if (!started) sample.first_token_seconds = now;
      started = true;
      sample.last_token_seconds = now;
    } else if (event.has_finish()) {
      sample.worker = event.finish().worker();
      sample.prompt_tokens = event.finish().usage().prompt_tokens();
      sample.cached_prompt_tokens = event.finish().usage().cached_prompt_tokens();
      sample.completion_tokens = event.finish().usage().completion_tokens();
    }
  });
  sample.total_seconds = elapsed();
  return sample;
}

}  // namespace

LoadResult RunClosedLoop(client::Client* client, const client::Cancellation* cancellation,
                         const LoadOptions& options,
                         const std::function<v1::GenerateRequest(int)>& make_request) {
  LoadResult result;
  Mutex mutex;
  // Runs requests [begin, end) and keeps their samples when `measured`.
  const auto phase = [&](int begin, int end, bool measured) {
    std::atomic<int> next = begin;
    const auto work = [&] {
      for (int i = next++; i < end; i = next++) {
        if (cancellation != nullptr && cancellation->cancelled()) return;
        Sample sample = Measure(client, make_request(i));
        if (!measured) continue;
        MutexLock lock(&mutex);
        result.samples.push_back(std::move(sample));
      }
    };
    std::vector<std::thread> threads;
    for (int i = 0; i < std::min(options.concurrency, end - begin); ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
  };
  phase(0, options.n_warmup, false);
  const absl::Time begin = absl::Now();
  phase(options.n_warmup, options.n_warmup + options.n_requests, true);
  result.wall_seconds = absl::ToDoubleSeconds(absl::Now() - begin);
  return result;
}

Percentiles Percentiles::Of(std::vector<double> values) {
  Percentiles out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  const auto at = [&](double p) {
    const double rank = std::ceil(p * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  for (const double v : values) out.mean += v / static_cast<double>(values.size());
  out.p50 = at(0.50);
  out.p90 = at(0.90);
  out.p95 = at(0.95);
  out.p99 = at(0.99);
  out.max = values.back();
  return out;
}

std::string FillerText(int index, int n_words) {
  static constexpr std::array<std::string_view, 32> kWords = {
      "water",  "table",  "green",  "letter", "morning", "river",  "paper",  "stone",
      "simple", "number", "garden", "light",  "window",  "early",  "summer", "market",
      "voice",  "bridge", "plain",  "winter", "round",   "island", "story",  "metal",
      "quiet",  "travel", "corner", "field",  "silver",  "cloud",  "answer", "north"};
  uint64_t state = 0x9E3779B97F4A7C15ULL * (static_cast<uint64_t>(index) + 1);
  std::string text;
  for (int i = 0; i < n_words; ++i) {
    // splitmix64: good enough to keep texts apart, and the same on every machine.
    state += 0x9E3779B97F4A7C15ULL;
    uint64_t x = state;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    if (i > 0) text += ' ';
    text += kWords[(x ^ (x >> 31)) % kWords.size()];
  }
  return text;
}

}  // namespace coterie::command
