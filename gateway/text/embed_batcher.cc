#include "gateway/text/embed_batcher.h"

#include <algorithm>

namespace coterie::gateway {
namespace {

// For so long after a question the next one is expected.
constexpr absl::Duration kLately = absl::Seconds(2);

Status Stopped() { return absl::UnavailableError("the gateway is shutting down"); }

}  // namespace

Status EmbedBatcher::WhyCancelled() { return absl::CancelledError("cancelled before it was embedded"); }

EmbedBatcher::EmbedBatcher(const Options& options, Pass pass, Pass aside)
    : options_(options),
      pass_(std::move(pass)),
      aside_(aside != nullptr ? std::move(aside) : pass_),
      most_bulk_passes_(std::max<size_t>(1, options.max_passes - 1)) {
  for (size_t i = 0; i < options_.max_passes; ++i) threads_.emplace_back([this] { Run(); });
}

void EmbedBatcher::Stop() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
  // Submit adds nothing any more.
  std::vector<Waiting> left;
  {
    MutexLock lock(&mutex_);
    while (n_running_ > 0) changed_.Wait(&mutex_);
    for (std::deque<Waiting>* queue : {&urgent_, &bulk_}) {
      for (Waiting& waiting : *queue) left.push_back(std::move(waiting));
      queue->clear();
    }
  }
  for (Waiting& waiting : left) waiting.done(Stopped());
}

void EmbedBatcher::Submit(Tokens text, TextEmbedder::Urgency urgency, CancelFlag cancelled,
                          TextEmbedder::Done done) {
  const bool is_question = urgency == TextEmbedder::Urgency::kRequest;
  Status refused;
  {
    MutexLock lock(&mutex_);
    if (is_question) last_question_ = MonotonicNow();
    std::deque<Waiting>& queue = is_question ? urgent_ : bulk_;
    if (stopping_) {
      refused = Stopped();
    } else if (is_question && n_running_ < options_.max_passes && !MayStart()) {
      ++n_running_;
    } else if (queue.size() >= options_.max_queued) {
      refused = absl::ResourceExhaustedError(
          absl::StrCat("the gateway's embedding queue is full (", options_.max_queued, " texts)"));
    } else {
      queue.push_back({std::move(text), std::move(cancelled), std::move(done)});
      changed_.Signal();
      return;
    }
  }
  if (!refused.ok()) return done(refused);
  std::vector<Waiting> alone;
  alone.push_back({std::move(text), std::move(cancelled), std::move(done)});
  RunPass(pass_, std::move(alone), /*only_bulk=*/false);
}

std::vector<EmbedBatcher::Waiting> EmbedBatcher::TakeBatch(std::vector<Waiting>* dropped) {
  std::vector<Waiting> batch;
  size_t n_tokens = 0;
  const auto drop = [&](std::deque<Waiting>* queue) {
    while (!queue->empty() && queue->front().cancelled.is_set()) {
      dropped->push_back(std::move(queue->front()));
      queue->pop_front();
    }
  };
  const auto take = [&](std::deque<Waiting>* queue) {
    n_tokens += queue->front().text.size();
    batch.push_back(std::move(queue->front()));
    queue->pop_front();
    drop(queue);
  };
  const auto fits = [&](const std::deque<Waiting>& queue) {
    return batch.empty() || n_tokens + queue.front().text.size() <= options_.max_batch_tokens;
  };
  drop(&urgent_);
  drop(&bulk_);
  while (!urgent_.empty() && fits(urgent_)) take(&urgent_);
  // However little room is left, or a long one would wait for as long as questions come.
  if (!bulk_.empty()) take(&bulk_);
  while (!bulk_.empty() && fits(bulk_)) take(&bulk_);
  return batch;
}

void EmbedBatcher::RunPass(const Pass& pass, std::vector<Waiting> batch, bool only_bulk) {
  std::vector<Tokens> texts;
  texts.reserve(batch.size());
  for (Waiting& waiting : batch) texts.push_back(std::move(waiting.text));
  StatusOr<std::vector<std::vector<float>>> embeddings = pass(texts);
  n_passes_.fetch_add(1, std::memory_order_relaxed);
  n_texts_.fetch_add(batch.size(), std::memory_order_relaxed);
  {
    MutexLock lock(&mutex_);
    --n_running_;
    n_bulk_running_ -= only_bulk ? 1 : 0;
    if (!NobodyWaits() || stopping_) changed_.SignalAll();
  }
  for (size_t i = 0; i < batch.size(); ++i) {
    if (embeddings.ok()) {
      batch[i].done(std::move((*embeddings)[i]));
    } else {
      batch[i].done(embeddings.status());
    }
  }
}

void EmbedBatcher::Run() {
  while (true) {
    std::vector<Waiting> batch;
    std::vector<Waiting> dropped;
    bool only_bulk = false;
    bool aside = false;
    {
      MutexLock lock(&mutex_);
      while (!MayStart() && !stopping_) changed_.Wait(&mutex_);
      if (stopping_) return;
      only_bulk = urgent_.empty();
      aside = only_bulk && MonotonicNow() - last_question_ < kLately;
      batch = TakeBatch(&dropped);
      if (!batch.empty()) {
        ++n_running_;
        n_bulk_running_ += only_bulk ? 1 : 0;
      }
    }
    for (Waiting& waiting : dropped) waiting.done(WhyCancelled());
    if (!batch.empty()) RunPass(aside ? aside_ : pass_, std::move(batch), only_bulk);
  }
}

}  // namespace coterie::gateway
