#ifndef COTERIE_GATEWAY_ANSWER_EMBED_TEXTS_H_
#define COTERIE_GATEWAY_ANSWER_EMBED_TEXTS_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/answer/admitted_task.h"

namespace coterie::gateway {

inline constexpr size_t kMaxEmbedTexts = 256;  // of one request

struct EmbedTextsRequest {
  std::vector<std::string> texts;
  RequestContext context;
  MonotonicTime deadline = MonotonicTime::InfiniteFuture();
};

// InvalidArgument for none, too many, or one that is too long; `field` is what the protocol calls them.
Status ValidateEmbedTexts(std::string_view field, const std::vector<std::string>& texts,
                          const RequestLimits& limits);

// Embeds texts for their own sake. A few of them stand in the encoder's queue at a time, so that many small
// requests and one large one get on side by side, and a cancelled one leaves next to nothing behind.
class EmbedTexts final : public AdmittedTask {
 public:
  // [texts][dim], unit norm.
  using Callback = std::function<void(StatusOr<std::vector<std::vector<float>>>)>;
  // The request has been validated. `done` is called once, unless Cancel comes first; it must not wait.
  static std::shared_ptr<EmbedTexts> Create(const GatewayCore* core, EmbedTextsRequest request,
                                            Callback done);

 private:
  EmbedTexts(const GatewayCore* core, EmbedTextsRequest request, Callback done);

  void Run() override;
  void Ended(const Status& status) override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // On the pool: gives the encoder the next few, then lets others have their turn.
  void SubmitSome();
  void SubmitMore();
  void Take(size_t at, StatusOr<std::vector<float>> embedding);
  std::shared_ptr<EmbedTexts> Self() { return std::static_pointer_cast<EmbedTexts>(shared_from_this()); }

  const std::vector<std::string> texts_;
  Callback done_callback_;
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t n_done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool submitting_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::vector<float>> results_ ABSL_GUARDED_BY(mutex_);  // [texts][dim]
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_EMBED_TEXTS_H_
