#include "gateway/answer/embed_texts.h"

#include <utility>

#include "common/refused_field.h"
#include "gateway/access/access_pass.h"
#include "gateway/access/retry_delay.h"
#include "gateway/answer/preparation.h"

namespace coterie::gateway {
namespace {

// Of one request in the encoder's queue: enough short ones to fill its passes.
constexpr size_t kMaxSubmitted = 32;
// Tokenised in one go: a text of 4 KB takes about half a millisecond, and questions wait meanwhile.
constexpr int kAtOnce = 4;

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

std::shared_ptr<EmbedTexts> EmbedTexts::Create(const GatewayCore* core, EmbedTextsRequest request,
                                               Callback done) {
  return std::shared_ptr<EmbedTexts>(new EmbedTexts(core, std::move(request), std::move(done)));
}

EmbedTexts::EmbedTexts(const GatewayCore* core, EmbedTextsRequest request, Callback done)
    : AdmittedTask(core, "Embed", Admission::Kind::kEmbed, static_cast<uint32_t>(request.texts.size()),
                   std::move(request.context), request.deadline),
      texts_(std::move(request.texts)),
      done_callback_(std::move(done)),
      results_(texts_.size()) {}

void EmbedTexts::Run() {
  {
    MutexLock lock(&mutex_);
    submitting_ = true;
  }
  SubmitMore();
}

void EmbedTexts::SubmitMore() {
  const Status status =
      core_->compute->Submit([self = Self()] { self->SubmitSome(); }, WorkPool::Turn::kSpare);
  if (!status.ok()) Fail(WithRetryDelay(status, core_->admission->RetryDelayNow(Admission::Kind::kEmbed)));
}

void EmbedTexts::SubmitSome() {
  for (int i = 0; i < kAtOnce; ++i) {
    size_t at;
    {
      MutexLock lock(&mutex_);
      if (done_ || next_ == texts_.size() || next_ - n_done_ >= kMaxSubmitted) {
        submitting_ = false;
        return;
      }
      at = next_++;
    }
    if (context_.pass != nullptr && core_->embedder != nullptr) {
      context_.pass->SpendTokens(core_->embedder->CountTokens(texts_[at]));
    }
    EmbedText(core_, texts_[at], TextEmbedder::Urgency::kBulk, over_,
              [self = Self(), at](StatusOr<std::vector<float>> embedding) {
                self->Take(at, std::move(embedding));
              });
  }
  SubmitMore();
}

void EmbedTexts::Take(size_t at, StatusOr<std::vector<float>> embedding) {
  if (!embedding.ok()) return Fail(embedding.status());
  {
    MutexLock lock(&mutex_);
    if (done_) return;
    results_[at] = *std::move(embedding);
    if (++n_done_ == texts_.size()) return EndLocked(absl::OkStatus());
    if (submitting_ || next_ == texts_.size() || next_ - n_done_ > kMaxSubmitted / 2) return;
    submitting_ = true;
  }
  SubmitMore();
}

void EmbedTexts::Ended(const Status& status) {
  const Callback done = std::move(done_callback_);
  done_callback_ = nullptr;
  if (status.ok()) {
    done(std::move(results_));
  } else {
    done(status);
  }
}

}  // namespace coterie::gateway
