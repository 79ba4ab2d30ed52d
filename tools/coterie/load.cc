#include "tools/coterie/load.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "common/mutex.h"

namespace coterie::command {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsBetween(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

Sample Measure(client::Client* client, const v1::GenerateRequest& request, Clock::time_point meant,
               absl::Duration timeout) {
  Sample sample;
  const auto elapsed = [meant] { return SecondsBetween(meant, Clock::now()); };
  sample.late_seconds = elapsed();
  bool started = false;
  sample.status = client->Generate(request, timeout, [&](const v1::GenerateResponse& event) {
    if (event.has_route()) {
      sample.expert = event.route().experts().empty() ? "base" : event.route().experts(0).name();
      sample.routing_seconds = event.route().embed_seconds() + event.route().search_seconds();
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

// In short sleeps, so that Ctrl-C is heard.
void SleepUntil(Clock::time_point time, const client::Cancellation& cancellation) {
  while (!cancellation.cancelled() && Clock::now() < time) {
    std::this_thread::sleep_until(std::min(time, Clock::now() + std::chrono::milliseconds(50)));
  }
}

}  // namespace

LoadResult RunLoad(client::Client* client, const client::Cancellation& cancellation,
                   const LoadOptions& options, std::span<const PlannedRequest> plan,
                   const std::function<v1::GenerateRequest(const PlannedRequest&)>& make_request,
                   LoadProgress* progress) {
  LoadResult result;
  Mutex mutex;
  const auto phase = [&](std::span<const PlannedRequest> requests, bool open, bool measured) {
    const Clock::time_point begin = Clock::now();
    std::atomic<size_t> next = 0;
    // Each thread has one request in flight; they take them in order, so that a free one waits for the next
    // start.
    const auto work = [&] {
      for (size_t i = next++; i < requests.size() && !cancellation.cancelled(); i = next++) {
        const v1::GenerateRequest request = make_request(requests[i]);
        Clock::time_point meant = Clock::now();
        if (open) {
          meant = begin + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double>(requests[i].start_seconds));
          SleepUntil(meant, cancellation);
          if (cancellation.cancelled()) return;
        }
        if (measured) ++progress->running;
        Sample sample = Measure(client, request, meant, options.timeout);
        if (!measured) continue;
        --progress->running;
        ++(sample.status.ok() ? progress->done : progress->failed);
        progress->completion_tokens += sample.completion_tokens;
        sample.start_seconds = SecondsBetween(begin, meant);
        MutexLock lock(&mutex);
        result.samples.push_back(std::move(sample));
      }
    };
    const size_t n_threads = std::min(static_cast<size_t>(options.max_running), requests.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < n_threads; ++i) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    return SecondsBetween(begin, Clock::now());
  };
  phase(plan.first(static_cast<size_t>(options.n_warmup)), false, false);
  result.wall_seconds = phase(plan.subspan(static_cast<size_t>(options.n_warmup)), options.open, true);
  return result;
}

}  // namespace coterie::command
