#include "gateway/answer/preparation.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "common/utf8.h"
#include "gateway/access/retry_delay.h"
#include "gateway/answer/conversation_route.h"

namespace coterie::gateway {
namespace {

bool InsideCharacter(std::string_view text, size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

// `text`, or of a longer one than `limit` (> 0) bytes its beginning and its end, `limit` bytes at most with
// the line break between.
std::string EndsOf(std::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  size_t tail = text.size() - (limit - 1) / 2;
  while (InsideCharacter(text, tail)) ++tail;
  return absl::StrCat(ToAbsl(CutUtf8(text, limit / 2)), "\n", ToAbsl(text.substr(tail)));
}

// Two jobs, one result: whoever is last reports.
class Preparation : public std::enable_shared_from_this<Preparation> {
 public:
  Preparation(const GatewayCore* core, PreparationRequest request, CancelFlag cancelled,
              std::function<void(StatusOr<Prepared>)> done)
      : core_(core), request_(std::move(request)), cancelled_(std::move(cancelled)), done_(std::move(done)) {}

  Status Start() {
    auto route = [self = shared_from_this()] { self->Route(); };
    auto encode = [self = shared_from_this()] {
      const Trace& trace = self->request_.trace;
      const SpanId span = trace.Open(trace.root(), "tokenise");
      self->encode_status_ = RefusedForGood(self->Encode());
      trace.Note(span, {"coterie.prompt_tokens", self->prepared_.prompt_ids.size()});
      trace.Close(span, self->encode_status_);
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
      encode_status_ = WithRetryDelay(second, core_->admission->RetryDelayNow());
      Join();
    }
    return absl::OkStatus();
  }

 private:
  void Route() {
    if (cancelled_.is_set()) {
      route_status_ = absl::CancelledError("cancelled before it was routed");
      Join();
      return;
    }
    state_ = core_->routers->Current();
    route_span_ = request_.trace.Open(request_.trace.root(), "route");
    if (!RouterState::NeedsEmbedding(request_.expert)) {
      const MonotonicTime begin = MonotonicNow();
      StatusOr<Decision> decision = state_->Decide(request_.expert, request_.routing, {});
      if (!decision.ok()) return Routed(decision.status());
      decision->search_seconds = absl::ToDoubleSeconds(MonotonicNow() - begin);
      return Routed(RoutedConversation{*std::move(decision), {}});
    }
    ConversationToRoute conversation;
    conversation.messages = request_.input.empty()
                                ? std::vector<std::string>{request_.completion}
                                : request_.input.UserMessages(core_->conversation.max_turns);
    conversation.ask = request_.routing;
    conversation.cache_salt = request_.cache_salt;
    conversation.trace = request_.trace;
    conversation.span = route_span_;
    RouteConversation(core_, state_, std::move(conversation), cancelled_,
                      [self = shared_from_this()](StatusOr<RoutedConversation> routed) {
                        self->Routed(std::move(routed));
                      });
  }

  void Routed(StatusOr<RoutedConversation> routed) {
    PlacementRequest placement;
    CloseRouteSpan(routed);
    if (routed.ok()) {
      core_->metrics->route.Observe(routed->decision.search_seconds);
      placement = PlacementOf(routed->decision);
      prepared_.decision = std::move(routed->decision);
      prepared_.router = state_;
      prepared_.embedding = std::move(routed->embedding);
    } else {
      route_status_ = routed.status();
    }
    // The tokens are not there yet, so the adapter may come first.
    if (!Join()) Prefetch(*core_, std::move(placement));
  }

  void CloseRouteSpan(const StatusOr<RoutedConversation>& routed) const {
    const Trace& trace = request_.trace;
    if (trace && routed.ok()) {
      const RoutePlan& plan = routed->decision.plan;
      trace.Note(route_span_, {"coterie.expert", plan.experts.empty() ? "base" : plan.experts[0].name});
      trace.Note(route_span_, {"coterie.policy", plan.policy});
      trace.Note(route_span_, {"coterie.reason", plan.reason});
      if (!routed->decision.candidates.empty()) {
        trace.Note(route_span_, {"coterie.score", routed->decision.candidates[0].score});
        trace.Note(route_span_, {"coterie.margin", plan.margin});
      }
    }
    trace.Close(route_span_, routed.status());
  }

  // A text beyond a limit of tokenizer or template stays beyond it: ResourceExhausted would tell the client
  // to try again.
  static Status RefusedForGood(Status status) {
    if (status.code() != absl::StatusCode::kResourceExhausted) return status;
    return absl::InvalidArgumentError(status.message());
  }

  // A prompt too long for the model's context, or for max_prompt_tokens, is refused: by the tokenizer, which
  // stops there, or below when input and completion together are too long.
  Status Encode() {
    if (cancelled_.is_set()) return absl::CancelledError("cancelled before it was tokenised");
    const uint32_t context = core_->text->context_tokens();
    const uint32_t limit =
        core_->limits.max_prompt_tokens == 0 ? context : std::min(context, core_->limits.max_prompt_tokens);
    if (request_.input.prompt) {
      ASSIGN_OR_RETURN(prepared_.prompt_ids, core_->text->EncodePrompt(*request_.input.prompt, limit));
    } else if (!request_.input.chat.empty()) {
      ASSIGN_OR_RETURN(prepared_.prompt_ids, core_->text->EncodeChat(request_.input.chat, limit));
    }
    prepared_.n_input_ids = prepared_.prompt_ids.size();
    if (request_.mark_question) MarkQuestion(limit);
    if (request_.completion.empty()) return absl::OkStatus();
    std::vector<int32_t> more;
    if (request_.input.empty()) {
      ASSIGN_OR_RETURN(more, core_->text->EncodePrompt(request_.completion, limit));
    } else {
      ASSIGN_OR_RETURN(more, core_->text->EncodeContinuation(request_.input, prepared_.prompt_ids,
                                                             request_.completion, limit));
    }
    prepared_.prompt_ids.insert(prepared_.prompt_ids.end(), more.begin(), more.end());
    if (prepared_.prompt_ids.size() > limit) {
      return absl::InvalidArgumentError(absl::StrCat("input and completion have ",
                                                     prepared_.prompt_ids.size(), " tokens, at most ", limit,
                                                     " are served"));
    }
    return absl::OkStatus();
  }

  // Finds the question's tokens without knowing the template: encodes the conversation again with the
  // question empty, and takes what lies between the common beginning and the common end.
  void MarkQuestion(uint32_t limit) {
    const std::vector<int32_t>& ids = prepared_.prompt_ids;
    prepared_.question_end = ids.size();
    if (request_.input.prompt) return;
    std::vector<ChatMessage> frame = request_.input.chat;
    const std::string_view question = request_.input.QuestionText();
    for (size_t i = 0; i < frame.size(); ++i) {
      if (std::string_view(request_.input.chat[i].content).data() == question.data())
        frame[i].content.clear();
    }
    const StatusOr<std::vector<int32_t>> around = core_->text->EncodeChat(frame, limit);
    if (!around.ok()) {  // a template that wants content: nothing can be told apart
      prepared_.question_end = 0;
      return;
    }
    const auto begin = std::mismatch(ids.begin(), ids.end(), around->begin(), around->end());
    const auto end = std::mismatch(ids.rbegin(), std::make_reverse_iterator(begin.first), around->rbegin(),
                                   std::make_reverse_iterator(begin.second));
    prepared_.question_begin = static_cast<size_t>(begin.first - ids.begin());
    prepared_.question_end = static_cast<size_t>(end.first.base() - ids.begin());
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
  const CancelFlag cancelled_;
  const std::function<void(StatusOr<Prepared>)> done_;
  std::atomic<int> left_ = 2;
  std::shared_ptr<const RouterState> state_;  // the route's
  SpanId route_span_;                         // likewise
  // Each job writes its own fields; the counter orders them before the join.
  Prepared prepared_;
  Status route_status_;
  Status encode_status_;
};

}  // namespace

Status Prepare(const GatewayCore* core, PreparationRequest request, CancelFlag cancelled,
               std::function<void(StatusOr<Prepared>)> done) {
  return std::make_shared<Preparation>(core, std::move(request), std::move(cancelled), std::move(done))
      ->Start();
}

PlacementRequest PlacementOf(const Decision& decision) {
  PlacementRequest placement;
  for (size_t i = 0; i < decision.plan.experts.size(); ++i) {
    const PlannedExpert& expert = decision.plan.experts[i];
    placement.adapters.push_back({expert.name, expert.adapter, decision.adapter_bytes[i]});
  }
  placement.gate = decision.plan.gate.kind;
  if (decision.plan.mode == CollaborationMode::kMixture) {
    placement.n_rows = static_cast<uint32_t>(decision.plan.experts.size());
  }
  return placement;
}

void Prefetch(const GatewayCore& core, PlacementRequest placement) {
  placement.base = core.text->base();
  core.workers->Prefetch(placement);
}

void EmbedText(const GatewayCore* core, std::string_view text, TextEmbedder::Urgency urgency,
               CancelFlag cancelled, TextEmbedder::Done done) {
  if (core->embedder == nullptr) {
    return done(absl::FailedPreconditionError(
        "this gateway runs without an embedder (--embedder) and cannot route by text; name an expert or ask "
        "for \"base\""));
  }
  const size_t limit = core->embed_max_bytes;
  const bool is_question = urgency == TextEmbedder::Urgency::kRequest;
  const std::string read = is_question ? EndsOf(text, limit) : std::string(CutUtf8(text, limit));
  auto embedded = [core, here = std::this_thread::get_id(), begin = MonotonicNow(), is_question,
                   done = std::move(done)](StatusOr<std::vector<float>> embedding) {
    if (embedding.status().code() == absl::StatusCode::kResourceExhausted) {
      return done(WithRetryDelay(embedding.status(), core->admission->RetryDelayNow()));
    }
    if (!embedding.ok()) return done(embedding.status());
    core->metrics->embed.Observe(absl::ToDoubleSeconds(MonotonicNow() - begin));
    if (std::this_thread::get_id() == here) return done(std::move(embedding));  // in the pool already
    // What follows (a search, say) would hold up the next batch.
    auto shared = std::make_shared<std::vector<float>>(*std::move(embedding));
    const Status status = core->compute->Submit([shared, done] { done(std::move(*shared)); },
                                                is_question ? WorkPool::Turn::kNext : WorkPool::Turn::kSpare);
    if (!status.ok()) done(WithRetryDelay(status, core->admission->RetryDelayNow()));
  };
  core->embedder->Embed(read, urgency, std::move(cancelled), std::move(embedded));
}

}  // namespace coterie::gateway
