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

#include "common/clock.h"
#include "common/mutex.h"
#include "common/status.h"
#include "gateway/text/text_embedder.h"

namespace coterie::gateway {

// Puts texts that arrive at about the same time into one pass of the encoder. A text that finds a pass free
// starts at once, a request's question on the very thread that brings it (while answers are being written
// every hand-over between threads waits for a core); what comes while all passes run waits for the first to
// end and goes together, so nothing ever waits for company. Texts that nobody generates for leave one of
// several passes to questions, and while questions come their passes take one core. Passes are short
// (max_batch_tokens), and a request's question goes before texts that nobody generates for, of which every
// pass still takes one beside its questions, however long it is. Texts that were cancelled meanwhile are
// passed over. Thread-safe.
class EmbedBatcher {
 public:
  struct Options {
    // At once, 1 to 64: as many as the encoder takes.
    size_t max_passes = 1;
    // Tokens of what a pass takes beside its one text of kBulk, and so, with that text, how long a question
    // may have to wait for the pass under way: 512 tokens take about 40 ms on one core. A single longer
    // question goes all the same.
    size_t max_batch_tokens = 512;
    // Texts of each urgency that wait; more are refused. They are counted apart, so that no amount of texts
    // nobody waits for keeps a question out.
    size_t max_queued = 4096;
  };
  using Tokens = std::vector<int32_t>;
  // One embedding per text, in order. Called on the batcher's threads and on those that submit, on at most
  // max_passes at once.
  using Pass = std::function<StatusOr<std::vector<std::vector<float>>>(std::span<const Tokens> texts)>;

  // `aside` is `pass` on one core; null: there is no difference.
  EmbedBatcher(const Options& options, Pass pass, Pass aside = nullptr);
  ~EmbedBatcher() { Stop(); }
  EmbedBatcher(const EmbedBatcher&) = delete;
  EmbedBatcher& operator=(const EmbedBatcher&) = delete;

  // `done` is called once: on a thread of the batcher, which it must not hold, or from here, for a text that
  // is refused (ResourceExhausted naming the limit; Unavailable once stopped) and for a question that found a
  // pass free, which by then is free for others.
  // Once `cancelled` is set a text that waits costs no pass any more: Cancelled.
  void Submit(Tokens text, TextEmbedder::Urgency urgency, CancelFlag cancelled, TextEmbedder::Done done);
  static Status WhyCancelled();

  // Refuses what waits and whatever comes, and returns when no pass runs any more, and no callback on the
  // batcher's threads.
  void Stop();

  uint64_t passes() const { return n_passes_.load(std::memory_order_relaxed); }
  uint64_t texts() const { return n_texts_.load(std::memory_order_relaxed); }  // embedded

 private:
  struct Waiting {
    Tokens text;
    CancelFlag cancelled;
    TextEmbedder::Done done;
  };

  void Run();
  bool NobodyWaits() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return urgent_.empty() && bulk_.empty(); }
  // Whether a pass may start on what waits.
  bool MayStart() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (n_running_ >= options_.max_passes) return false;
    return !urgent_.empty() || (!bulk_.empty() && n_bulk_running_ < most_bulk_passes_);
  }
  // The texts of the next pass: urgent ones first, one of the others wherever there is one, and what fits.
  // Those that were cancelled go to `dropped`; perhaps nothing else is left.
  std::vector<Waiting> TakeBatch(std::vector<Waiting>* dropped) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Called with the pass counted by the caller; counts it off before the callbacks.
  void RunPass(const Pass& pass, std::vector<Waiting> batch, bool only_bulk) ABSL_LOCKS_EXCLUDED(mutex_);

  const Options options_;
  const Pass pass_;
  const Pass aside_;
  const size_t most_bulk_passes_;  // of texts that nobody generates for alone
  std::atomic<uint64_t> n_passes_ = 0, n_texts_ = 0;

  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  size_t n_running_ ABSL_GUARDED_BY(mutex_) = 0;  // passes
  size_t n_bulk_running_ ABSL_GUARDED_BY(mutex_) = 0;
  MonotonicTime last_question_ ABSL_GUARDED_BY(mutex_);
  std::deque<Waiting> urgent_ ABSL_GUARDED_BY(mutex_);
  std::deque<Waiting> bulk_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;  // one for each pass
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_EMBED_BATCHER_H_
