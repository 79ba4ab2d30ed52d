#include "gateway/answer/conversation_route.h"

#include <utility>

#include "common/clock.h"
#include "gateway/answer/preparation.h"
#include "gateway/routing/conversation_routing.h"
#include "gateway/text/embedding_cache.h"

namespace coterie::gateway {
namespace {

// One message after the other: each vector says whether the next text to embed is a message or two of them
// joined. An early message is nearly always in the cache, so there is nothing to gain by embedding several at
// once.
class RoutedWalk : public std::enable_shared_from_this<RoutedWalk> {
 public:
  RoutedWalk(const GatewayCore* core, ConversationToRoute conversation, CancelFlag cancelled,
             std::function<void(StatusOr<RoutedConversation>)> done)
      : core_(core),
        conversation_(std::move(conversation)),
        cancelled_(std::move(cancelled)),
        done_(std::move(done)) {}

  void Start(std::shared_ptr<const RouterState> state) {
    auto routing =
        ConversationRouting::Create(std::move(state), conversation_.ask, core_->phrases, core_->conversation);
    if (!routing.ok()) return done_(routing.status());
    routing_ = *std::move(routing);
    Next();
  }

 private:
  void Next() {
    if (vectors_.size() == conversation_.messages.size()) return Finish();
    Embed(conversation_.messages[vectors_.size()], &RoutedWalk::Take);
  }

  void Embed(const std::string& text, void (RoutedWalk::*then)(std::vector<float>)) {
    // A question that stands alone is always embedded: whoever measures the embedder means it.
    const bool has_history = conversation_.messages.size() > 1;
    EmbeddingCache* const cache = core_->embeddings;
    const Digest key = cache == nullptr ? Digest() : EmbeddingCache::KeyOf(text, conversation_.cache_salt);
    if (cache != nullptr && has_history) {
      if (auto vector = cache->Find(key); vector.has_value()) return (this->*then)(*std::move(vector));
    }
    EmbedText(core_, text, TextEmbedder::Urgency::kRequest, cancelled_,
              [self = shared_from_this(), cache, key, then,
               begin = MonotonicNow()](StatusOr<std::vector<float>> vector) {
                if (!vector.ok()) return self->done_(vector.status());
                const MonotonicTime end = MonotonicNow();
                self->conversation_.trace.Add(self->conversation_.span, "embed", begin, end);
                self->embed_time_ += end - begin;
                if (cache != nullptr) cache->Keep(key, *vector);
                (self.get()->*then)(*std::move(vector));
              });
  }

  void Take(std::vector<float> vector) {
    const MonotonicTime begin = MonotonicNow();
    const Status status = routing_->walk().Take(vector);
    search_time_ += MonotonicNow() - begin;
    if (!status.ok()) return done_(status);
    vectors_.push_back(std::move(vector));
    if (!routing_->walk().MustJoin()) return Next();
    const std::string joined = absl::StrCat(conversation_.messages[routing_->walk().anchor()], "\n",
                                            conversation_.messages[vectors_.size() - 1]);
    Embed(joined, &RoutedWalk::TakeJoined);
  }

  void TakeJoined(std::vector<float> vector) {
    routing_->walk().TakeJoined(vector);
    Next();
  }

  void Finish() {
    const MonotonicTime begin = MonotonicNow();
    StatusOr<Decision> decision = routing_->Decide();
    if (!decision.ok()) return done_(decision.status());
    search_time_ += MonotonicNow() - begin;
    decision->embed_seconds = absl::ToDoubleSeconds(embed_time_);
    decision->search_seconds = absl::ToDoubleSeconds(search_time_);
    done_(RoutedConversation{*std::move(decision), std::move(vectors_[routing_->walk().anchor()])});
  }

  const GatewayCore* const core_;
  const ConversationToRoute conversation_;
  const CancelFlag cancelled_;
  const std::function<void(StatusOr<RoutedConversation>)> done_;
  std::unique_ptr<ConversationRouting> routing_;
  std::vector<std::vector<float>> vectors_;  // of the messages so far
  absl::Duration embed_time_;
  absl::Duration search_time_;
};

}  // namespace

void RouteConversation(const GatewayCore* core, std::shared_ptr<const RouterState> state,
                       ConversationToRoute conversation, CancelFlag cancelled,
                       std::function<void(StatusOr<RoutedConversation>)> done) {
  std::make_shared<RoutedWalk>(core, std::move(conversation), std::move(cancelled), std::move(done))
      ->Start(std::move(state));
}

}  // namespace coterie::gateway
