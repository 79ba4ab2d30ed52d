#include "gateway/answer/text_embedding.h"

#include <atomic>
#include <memory>
#include <utility>

#include "common/refused_field.h"
#include "gateway/access/retry_delay.h"
#include "gateway/answer/preparation.h"

namespace coterie::gateway {
namespace {

// The texts of one request, all at once; whoever is last answers.
class EmbedAll : public std::enable_shared_from_this<EmbedAll> {
 public:
  EmbedAll(const GatewayCore* core, std::vector<std::string> texts, EmbedTextsDone done)
      : core_(core),
        texts_(std::move(texts)),
        done_(std::move(done)),
        left_(texts_.size()),
        results_(texts_.size(), absl::UnknownError("not embedded")) {}

  void Start() {
    for (size_t i = 0; i < texts_.size(); ++i) {
      EmbedText(core_, texts_[i], TextEmbedder::Urgency::kBulk,
                [self = shared_from_this(), i](StatusOr<std::vector<float>> embedding) {
                  self->results_[i] = std::move(embedding);
                  if (self->left_.fetch_sub(1) == 1) self->Answer();
                });
    }
  }

  void Finish(StatusOr<std::vector<std::vector<float>>> result) {
    core_->metrics->CountRequest("Embed", result.status());
    done_(std::move(result));
  }

 private:
  void Answer() {
    std::vector<std::vector<float>> embeddings;
    embeddings.reserve(results_.size());
    for (StatusOr<std::vector<float>>& embedding : results_) {
      if (!embedding.ok()) return Finish(embedding.status());
      embeddings.push_back(*std::move(embedding));
    }
    Finish(std::move(embeddings));
  }

  const GatewayCore* const core_;
  const std::vector<std::string> texts_;
  const EmbedTextsDone done_;
  std::atomic<size_t> left_;
  std::vector<StatusOr<std::vector<float>>> results_;  // each callback writes its own
};

}  // namespace

Status ValidateEmbedTexts(std::string_view field, const std::vector<std::string>& texts,
                          const RequestLimits& limits) {
  const auto refuse = [&](const auto&... words) {
    return OfField(absl::InvalidArgumentError(absl::StrCat(ToAbsl(field), words...)), field);
  };
  if (texts.empty()) return refuse(" is empty");
  if (texts.size() > kMaxEmbedTexts) {
    return refuse(" has ", texts.size(), " entries, at most ", kMaxEmbedTexts, " are allowed");
  }
  for (size_t i = 0; i < texts.size(); ++i) {
    if (texts[i].size() > limits.max_input_bytes) {
      return refuse("[", i, "] has ", texts[i].size(), " bytes, at most ", limits.max_input_bytes,
                    " are allowed");
    }
  }
  return absl::OkStatus();
}

void EmbedTexts(const GatewayCore* core, std::vector<std::string> texts, EmbedTextsDone done) {
  auto all = std::make_shared<EmbedAll>(core, std::move(texts), std::move(done));
  const Status status = core->compute->Submit([all] { all->Start(); });
  if (!status.ok()) all->Finish(WithRetryDelay(status, core->admission->RetryDelayNow()));
}

}  // namespace coterie::gateway
