#ifndef COTERIE_GATEWAY_TEXT_EMBED_BATCHER_H_
#define COTERIE_GATEWAY_TEXT_EMBED_BATCHER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "gateway/text/text_embedder.h"

namespace coterie::gateway {

// Puts texts that arrive at about the same time into one pass of the encoder. A text that finds the encoder
// idle starts at once, a request's question on the very thread that brings it (while answers are being
// written every hand-over between threads waits for a core); what comes while a pass runs waits for its end
// and goes together, so nothing ever waits for company. Passes are short (max_batch_tokens), and a request's
// question goes before texts that nobody generates for, of which every pass still takes one beside its
// questions, however long it is. Thread-safe.
class EmbedBatcher {
 public:
  struct Options {
    // Tokens of what a pass takes beside its one text of kBulk, and so, with that text, how long a question
    // may have to wait for the pass under way: 512 tokens take about 40 ms on one core. A single longer
    // question goes all the same.
    size_t max_batch_tokens = 512;
    // Texts of each urgency that wait; more are refused. They are counted apart, so that no amount of texts
    // nobody waits for keeps a question out.
    size_t max_queued = 4096;
  };
  using Tokens = std::vector<int32_t>;
  // One embedding per text, in order. Called on the batcher's thread or on one that submits, never on two at
  // once.
  using Pass = std::function<StatusOr<std::vector<std::vector<float>>>(std::span<const Tokens> texts)>;

  EmbedBatcher(const Options& options, Pass pass);
  ~EmbedBatcher() { Stop(); }
  EmbedBatcher(const EmbedBatcher&) = delete;
  EmbedBatcher& operator=(const EmbedBatcher&) = delete;

  // `done` is called once: on the batcher's thread, which it must not hold, or from here, for a text that is
  // refused (ResourceExhausted naming the limit; Unavailable once stopped) and for a question that found the
  // encoder idle, which by then is free for others.
  void Submit(Tokens text, TextEmbedder::Urgency urgency, TextEmbedder::Done done);

  // Refuses what waits and whatever comes, and returns when no pass runs any more, and no callback on the
  // batcher's thread.
  void Stop();

  uint64_t passes() const { return n_passes_.load(std::memory_order_relaxed); }
  uint64_t texts() const { return n_texts_.load(std::memory_order_relaxed); }  // embedded

 private:
  struct Waiting {
    Tokens text;
    TextEmbedder::Done done;
  };

  void Run();
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !busy_ && urgent_.empty() && bulk_.empty();
  }
  // The texts of the next pass: urgent ones first, one of the others wherever there is one, and what fits.
  std::vector<Waiting> TakeBatch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Called with busy_ set by the caller; clears it before the callbacks.
  void RunPass(std::vector<Waiting> batch) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  const Pass pass_;
  std::atomic<uint64_t> n_passes_ = 0, n_texts_ = 0;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;  // a pass runs
  std::deque<Waiting> urgent_ ABSL_GUARDED_BY(mutex_);
  std::deque<Waiting> bulk_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_EMBED_BATCHER_H_
