#include "gateway/text/load_phrases.h"

#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/clock.h"
#include "common/mutex.h"

namespace coterie::gateway {
namespace {

constexpr absl::Duration kPhrasesTimeout = absl::Minutes(1);

// [n, dim]
class EmbeddedPhrases {
 public:
  explicit EmbeddedPhrases(size_t n) : vectors_(n), left_(n) {}

  void Set(size_t i, StatusOr<std::vector<float>> vector) {
    MutexLock lock(&mutex_);
    if (vector.ok()) {
      vectors_[i] = *std::move(vector);
    } else if (error_.ok()) {
      error_ = vector.status();
    }
    if (--left_ == 0) done_.SignalAll();
  }
  StatusOr<std::vector<float>> Wait() {
    const MonotonicTime until = MonotonicNow() + kPhrasesTimeout;
    MutexLock lock(&mutex_);
    while (left_ > 0) {
      const absl::Duration left = until - MonotonicNow();
      if (left <= absl::ZeroDuration()) {
        return absl::DeadlineExceededError("the embedder did not embed the phrases of conversations in time");
      }
      done_.WaitFor(&mutex_, left);
    }
    if (!error_.ok()) return error_;
    std::vector<float> all;
    for (const std::vector<float>& vector : vectors_) all.insert(all.end(), vector.begin(), vector.end());
    return all;
  }

 private:
  Mutex mutex_;
  CondVar done_;
  std::vector<std::vector<float>> vectors_ ABSL_GUARDED_BY(mutex_);
  size_t left_ ABSL_GUARDED_BY(mutex_);
  Status error_ ABSL_GUARDED_BY(mutex_);  // the first
};

StatusOr<std::vector<float>> EmbedPhrases(TextEmbedder* embedder, std::span<const std::string_view> phrases) {
  const auto embedded = std::make_shared<EmbeddedPhrases>(phrases.size());
  for (size_t i = 0; i < phrases.size(); ++i) {
    embedder->Embed(
        phrases[i], TextEmbedder::Urgency::kBulk, CancelFlag(),
        [embedded, i](StatusOr<std::vector<float>> vector) { embedded->Set(i, std::move(vector)); });
  }
  return embedded->Wait();
}

}  // namespace

StatusOr<std::unique_ptr<const ConversationPhrases>> LoadPhrases(TextEmbedder* embedder) {
  ASSIGN_OR_RETURN(std::vector<float> small_talk, EmbedPhrases(embedder, SmallTalkPhrases()));
  ASSIGN_OR_RETURN(std::vector<float> follow_ups, EmbedPhrases(embedder, FollowUpPhrases()));
  ASSIGN_OR_RETURN(std::vector<float> general, EmbedPhrases(embedder, GeneralQuestions()));
  ASSIGN_OR_RETURN(ConversationPhrases phrases,
                   ConversationPhrases::Create(std::move(small_talk), std::move(follow_ups),
                                               std::move(general), embedder->dim()));
  return std::make_unique<const ConversationPhrases>(std::move(phrases));
}

}  // namespace coterie::gateway
