#include "gateway/answer/preparation.h"

#include <atomic>
#include <utility>

#include "absl/time/clock.h"

namespace coterie::gateway {
namespace {

// The longest beginning of `text` within `limit` bytes that ends between two characters.
std::string_view CutAtCharacter(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return text.substr(0, limit);
}

// Two jobs, one result: whoever is last reports.
class Preparation : public std::enable_shared_from_this<Preparation> {
 public:
  Preparation(const GatewayCore* core, PreparationRequest request,
              std::function<void(StatusOr<Prepared>)> done)
      : core_(core), request_(std::move(request)), done_(std::move(done)) {}

  Status Start() {
    auto route = [self = shared_from_this()] {
      self->route_status_ = self->Route();
      PlacementRequest placement;
      if (self->route_status_.ok()) placement.adapters = AdaptersToPlace(self->prepared_.decision);
      // The tokens are not there yet, so the adapter may come first.
      if (!self->Join()) Prefetch(*self->core_, std::move(placement));
    };
    auto encode = [self = shared_from_this()] {
      self->encode_status_ = self->Encode();
      self->Join();
    };
    if (request_.only_route) {
      left_ = 1;
      return core_->compute->Submit(std::move(route));
    }
    RETURN_IF_ERROR(core_->compute->Submit(std::move(route)));
    const Status second = core_->compute->Submit(std::move(encode));
    if (!second.ok()) {
      // The first runs already, so the result comes by `done`.
      encode_status_ = second;
      Join();
    }
    return absl::OkStatus();
  }

 private:
  Status Route() {
    const std::shared_ptr<const RouterState> state = core_->routers->Current();
    std::vector<float> embedding;
    double embed_seconds = 0;
    if (RouterState::NeedsEmbedding(request_.expert)) {
      const absl::Time begin = absl::Now();
      const std::string_view question =
          request_.input.empty() ? std::string_view(request_.completion) : request_.input.QuestionText();
      ASSIGN_OR_RETURN(embedding, EmbedText(*core_, question));
      embed_seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    }
    const absl::Time begin = absl::Now();
    ASSIGN_OR_RETURN(prepared_.decision, state->Decide(request_.expert, request_.routing, embedding));
    prepared_.decision.embed_seconds = embed_seconds;
    prepared_.decision.search_seconds = absl::ToDoubleSeconds(absl::Now() - begin);
    core_->metrics->route.Observe(prepared_.decision.search_seconds);
    return absl::OkStatus();
  }

  Status Encode() {
    const uint32_t context = core_->text->context_tokens();
    const uint32_t limit =
        core_->limits.max_prompt_tokens == 0 ? context : std::min(context, core_->limits.max_prompt_tokens);
    if (request_.input.prompt) {
      ASSIGN_OR_RETURN(prepared_.prompt_ids, core_->text->EncodePrompt(*request_.input.prompt, limit));
    } else if (!request_.input.chat.empty()) {
      ASSIGN_OR_RETURN(prepared_.prompt_ids, core_->text->EncodeChat(request_.input.chat, limit));
    }
    prepared_.n_input_ids = prepared_.prompt_ids.size();
    if (request_.completion.empty()) return absl::OkStatus();
    std::vector<int32_t> more;
    if (request_.input.empty()) {
      ASSIGN_OR_RETURN(more, core_->text->EncodePrompt(request_.completion, limit));
    } else {
      ASSIGN_OR_RETURN(more, core_->text->EncodeContinuation(request_.completion, limit));
    }
    prepared_.prompt_ids.insert(prepared_.prompt_ids.end(), more.begin(), more.end());
    if (prepared_.prompt_ids.size() > limit) {
      return absl::InvalidArgumentError(absl::StrCat("input and completion have ",
                                                     prepared_.prompt_ids.size(), " tokens, at most ", limit,
                                                     " are served"));
    }
    return absl::OkStatus();
  }

  // True for the last, which has reported.
  bool Join() {
    if (left_.fetch_sub(1) != 1) return false;
    if (!route_status_.ok()) {
      done_(route_status_);
    } else if (!encode_status_.ok()) {
      done_(encode_status_);
    } else {
      done_(std::move(prepared_));
    }
    return true;
  }

  const GatewayCore* const core_;
  const PreparationRequest request_;
  const std::function<void(StatusOr<Prepared>)> done_;
  std::atomic<int> left_ = 2;
  // Each job writes its own fields; the counter orders them before the join.
  Prepared prepared_;
  Status route_status_;
  Status encode_status_;
};

}  // namespace

Status Prepare(const GatewayCore* core, PreparationRequest request,
               std::function<void(StatusOr<Prepared>)> done) {
  return std::make_shared<Preparation>(core, std::move(request), std::move(done))->Start();
}

std::vector<PlacementRequest::Adapter> AdaptersToPlace(const Decision& decision) {
  std::vector<PlacementRequest::Adapter> adapters;
  for (size_t i = 0; i < decision.plan.experts.size(); ++i) {
    const PlannedExpert& expert = decision.plan.experts[i];
    adapters.push_back({expert.name, expert.adapter, decision.adapter_bytes[i]});
  }
  return adapters;
}

void Prefetch(const GatewayCore& core, PlacementRequest placement) {
  placement.base = core.text->base();
  core.workers->Prefetch(placement);
}

StatusOr<std::vector<float>> EmbedText(const GatewayCore& core, std::string_view text) {
  if (core.embedder == nullptr) {
    return absl::FailedPreconditionError(
        "this gateway runs without an embedder (--embedder) and cannot route by text; name an expert or ask "
        "for "
        "\"base\"");
  }
  const absl::Time begin = absl::Now();
  ASSIGN_OR_RETURN(std::vector<float> embedding,
                   core.embedder->Embed(CutAtCharacter(text, core.embed_max_bytes)));
  core.metrics->embed.Observe(absl::ToDoubleSeconds(absl::Now() - begin));
  return embedding;
}

}  // namespace coterie::gateway
