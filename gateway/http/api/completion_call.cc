#include "gateway/http/api/completion_call.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/unix_time.h"
#include "gateway/http/api/status_response.h"

namespace coterie::gateway::http {

// Where one choice's events come in.
class CompletionCall::Sink final : public AnswerSink {
 public:
  Sink(std::shared_ptr<CompletionCall> call, size_t index) : call_(std::move(call)), index_(index) {}
  void OnEvent(AnswerEvent event) override { call_->Push(index_, std::move(event), nullptr); }
  void OnAnswerEnd(const Status& status) override { call_->Push(index_, std::nullopt, &status); }

 private:
  const std::shared_ptr<CompletionCall> call_;
  const size_t index_;
};

void CompletionCall::Start(const GatewayCore* core, std::shared_ptr<Exchange> exchange, CompletionAsk ask) {
  const std::shared_ptr<CompletionCall> call(new CompletionCall(core, exchange, std::move(ask)));
  if (const Status status = call->Begin(); !status.ok()) {
    core->metrics->CountRequest("Generate", status);
    call->choices_.clear();  // they hold what holds them; none has begun
    exchange->Respond(StatusResponse(status));
  }
}

CompletionCall::CompletionCall(const GatewayCore* core, std::shared_ptr<Exchange> exchange, CompletionAsk ask)
    : core_(core), exchange_(std::move(exchange)), ask_(std::move(ask)), inboxes_(ask_.requests.size()) {
  frame_.chat = ask_.chat;
  frame_.id = absl::StrCat(ask_.chat ? "chatcmpl-" : "cmpl-", DrawTraceId());
  frame_.created = UnixSeconds();
  frame_.null_usage = ask_.include_usage;
}

Status CompletionCall::Begin() {
  std::vector<std::shared_ptr<Generation>> generations;
  for (size_t i = 0; i < ask_.requests.size(); ++i) {
    Choice& choice = choices_.emplace_back(ask_.chat);
    if (ask_.echo) choice.echo = *ask_.requests[i].input.prompt;
    ASSIGN_OR_RETURN(choice.generation, Generation::Create(core_, std::move(ask_.requests[i]),
                                                           std::make_shared<Sink>(shared_from_this(), i)));
    generations.push_back(choice.generation);
  }
  // Before anything runs: choices_ is the connection's from here on.
  exchange_->WhenGone([self = shared_from_this()] { self->CancelAll(); });
  for (const auto& generation : generations) generation->Begin();
  return absl::OkStatus();
}

void CompletionCall::Push(size_t index, std::optional<AnswerEvent> event, const Status* end) {
  {
    MutexLock lock(&mutex_);
    if (event) inboxes_[index].events.Push(*std::move(event));
    if (end != nullptr) inboxes_[index].end = *end;
  }
  Wake();
}

void CompletionCall::Wake() {
  if (awake_.exchange(true)) return;
  exchange_->Post([self = shared_from_this()] {
    self->awake_ = false;
    self->Look();
  });
}

void CompletionCall::Look() {
  // While a write is under way what comes waits, and goes as one piece.
  if (over_ || (stream_begun_ && exchange_->writing())) return;
  std::vector<Inbox> taken(choices_.size());
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < taken.size(); ++i) {
      std::swap(taken[i].events, inboxes_[i].events);
      taken[i].end = inboxes_[i].end;
    }
  }
  bool all_ended = true;
  for (size_t i = 0; i < taken.size(); ++i) {
    while (!taken[i].events.empty()) Take(i, taken[i].events.Pop());
    if (taken[i].end && !taken[i].end->ok()) return Fail(*taken[i].end);
    all_ended = all_ended && taken[i].end.has_value();
  }
  if (all_ended) return ask_.stream ? FinishStream() : FinishWhole();
  if (ask_.stream && !bytes_.empty()) return Flush();
  Acknowledge();
}

void CompletionCall::Take(size_t index, AnswerEvent event) {
  Choice& choice = choices_[index];
  if (auto* route = std::get_if<RouteEvent>(&event)) {
    if (frame_.model.empty()) {
      frame_.model = ModelOf(route->decision);
      frame_.fingerprint = route->numerics_class;
    }
    choice.route = std::move(*route);
  } else if (const auto* prompt = std::get_if<PromptEvent>(&event)) {
    choice.logprobs.Append(*prompt);
    if (ask_.stream) choice.echo_logprobs = choice.logprobs.Take();
  } else if (auto* text = std::get_if<TextEvent>(&event)) {
    TakeText(index, std::move(*text));
  } else if (auto* finish = std::get_if<FinishEvent>(&event)) {
    choice.finish = std::move(*finish);
    if (!ask_.stream) return;
    ChunkParts parts;
    parts.finish = &*choice.finish;
    WriteParts(index, parts);
  } else if (const auto* notice = std::get_if<NoticeEvent>(&event); notice != nullptr && stream_begun_) {
    // A comment: clients pass over it, and people see it in a trace.
    absl::StrAppend(&bytes_, ": ", HeaderValue(notice->placement.reason), "\n\n");
  }
}

void CompletionCall::TakeText(size_t index, TextEvent event) {
  Choice& choice = choices_[index];
  choice.n_unacknowledged += static_cast<uint32_t>(event.token_ids.size());
  for (const TextLogprobs& token : event.logprobs) choice.logprobs.Append(token);
  if (!ask_.stream) {
    choice.text += event.text;
    return;
  }
  if (event.text.empty() && choice.logprobs.empty()) return;  // part of a character, or of a stop string
  const std::string logprobs = choice.logprobs.Take();
  ChunkParts parts;
  parts.text = event.text;
  parts.logprobs = logprobs;
  WriteParts(index, parts);
}

void CompletionCall::WriteParts(size_t index, ChunkParts parts) {
  Choice& choice = choices_[index];
  parts.index = index;
  if (!std::exchange(choice.begun, true)) {
    const RouteEvent* route = choice.route ? &*choice.route : nullptr;
    if (ask_.chat || !choice.echo.empty() || !choice.echo_logprobs.empty()) {
      ChunkParts first;
      first.index = index;
      first.role = true;
      first.text = choice.echo;
      first.logprobs = choice.echo_logprobs;
      first.route = route;
      AppendChunk(frame_, first, &bytes_);
    } else {
      parts.route = route;
    }
  }
  AppendChunk(frame_, parts, &bytes_);
}

void CompletionCall::BeginStream() {
  if (std::exchange(stream_begun_, true)) return;
  HttpResponse head;
  head.type = "text/event-stream; charset=utf-8";
  head.headers.emplace_back("Cache-Control", "no-cache");
  head.headers.emplace_back("X-Accel-Buffering", "no");  // nginx would hold the events back
  AddRouteHeaders(FirstRoute(), &head.headers);
  exchange_->BeginStream(std::move(head));
}

void CompletionCall::Flush() {
  BeginStream();
  exchange_->Send(std::exchange(bytes_, {}), [self = shared_from_this()] {
    if (self->over_) return;
    self->Acknowledge();
    self->Look();
  });
}

void CompletionCall::FinishStream() {
  BeginStream();
  if (ask_.include_usage) AppendUsageChunk(frame_, SumUsage(), &bytes_);
  bytes_ += "data: [DONE]\n\n";
  exchange_->EndStream(std::exchange(bytes_, {}));
  CancelAll();
}

void CompletionCall::FinishWhole() {
  std::vector<WholeChoice> whole;
  for (Choice& choice : choices_) {
    whole.push_back({choice.echo + choice.text, choice.logprobs.Take(), *choice.finish});
  }
  HttpResponse response = HttpResponse::Json(WholeAnswer(frame_, whole, SumUsage(), FirstRoute()));
  AddRouteHeaders(FirstRoute(), &response.headers);
  exchange_->Respond(std::move(response));
  CancelAll();
}

void CompletionCall::Fail(const Status& status) {
  if (!ask_.stream || (!stream_begun_ && bytes_.empty())) {
    exchange_->Respond(StatusResponse(status));
  } else {
    BeginStream();
    AppendErrorEvent(StatusBody(status), &bytes_);
    exchange_->EndStream(std::exchange(bytes_, {}));
  }
  CancelAll();
}

void CompletionCall::Acknowledge() {
  for (Choice& choice : choices_) {
    const uint32_t n = std::exchange(choice.n_unacknowledged, 0);
    if (n > 0 && choice.generation != nullptr) choice.generation->Acknowledge(n);
  }
}

// Those that have ended do not mind. What holds what holds us is let go of.
void CompletionCall::CancelAll() {
  over_ = true;
  for (Choice& choice : choices_) {
    if (choice.generation != nullptr) choice.generation->Cancel();
    choice.generation.reset();
  }
}

// A prompt counts once, however many choices it has.
UsageCount CompletionCall::SumUsage() const {
  UsageCount sum;
  for (size_t i = 0; i < choices_.size(); ++i) {
    if (!choices_[i].finish) continue;
    const UsageCount& usage = choices_[i].finish->usage;
    sum.completion_tokens += usage.completion_tokens;
    if (i % ask_.n != 0) continue;
    sum.prompt_tokens += usage.prompt_tokens;
    sum.cached_prompt_tokens += usage.cached_prompt_tokens;
  }
  return sum;
}

const RouteEvent& CompletionCall::FirstRoute() const {
  static const RouteEvent* const kNone = new RouteEvent();
  for (const Choice& choice : choices_) {
    if (choice.route) return *choice.route;
  }
  return *kNone;
}

}  // namespace coterie::gateway::http
