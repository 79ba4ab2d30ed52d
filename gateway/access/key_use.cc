#include "gateway/access/key_use.h"

#include "absl/strings/str_cat.h"
#include "common/quoted.h"
#include "gateway/access/retry_delay.h"

namespace coterie::gateway {
namespace {

// After which a client that has too many requests under way may look again: how long they take nobody knows.
constexpr absl::Duration kConcurrentRetry = absl::Seconds(1);

Status Exhausted(const ApiKey& key, const std::string& words, absl::Duration delay) {
  return WithRetryDelay(absl::ResourceExhaustedError(absl::StrCat("key ", Quoted(key.id), " ", words)),
                        delay);
}

}  // namespace

KeyUse::Refusal KeyUse::Begin(const ApiKey& key, MonotonicTime now) {
  MutexLock lock(&mutex_);
  if (key.concurrent_requests > 0 && n_running_ >= key.concurrent_requests) {
    return {Short::kConcurrent,
            Exhausted(key,
                      absl::StrCat("has ", n_running_, " requests under way, at most ",
                                   key.concurrent_requests, " are allowed; wait for one to end"),
                      kConcurrentRetry)};
  }
  if (const absl::Duration wait = requests_.WaitFor(1, now); wait > absl::ZeroDuration()) {
    return {Short::kRequests, Exhausted(key,
                                        absl::StrCat("has used up its ", key.requests_per_minute,
                                                     " requests a minute; the next one may come in ",
                                                     absl::FormatDuration(wait)),
                                        wait)};
  }
  if (const absl::Duration wait = tokens_.WaitFor(1, now); wait > absl::ZeroDuration()) {
    return {Short::kTokens, Exhausted(key,
                                      absl::StrCat("has used up its ", key.tokens_per_minute,
                                                   " tokens a minute; the next request may come in ",
                                                   absl::FormatDuration(wait)),
                                      wait)};
  }
  requests_.Take(1, now);
  ++n_running_;
  return {};
}

void KeyUse::End() {
  MutexLock lock(&mutex_);
  --n_running_;
}

void KeyUse::SpendTokens(uint64_t n, MonotonicTime now) {
  MutexLock lock(&mutex_);
  tokens_.Take(static_cast<double>(n), now);
}

void KeyUse::SetLimits(const ApiKey& key, MonotonicTime now) {
  MutexLock lock(&mutex_);
  requests_.SetRate(key.requests_per_minute, now);
  tokens_.SetRate(key.tokens_per_minute, now);
}

}  // namespace coterie::gateway
