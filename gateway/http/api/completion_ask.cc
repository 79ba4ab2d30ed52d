#include "gateway/http/api/completion_ask.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/refused_field.h"
#include "gateway/http/api/answer_fields.h"
#include "gateway/http/api/constraint_fields.h"

namespace coterie::gateway::http {
namespace {

constexpr uint32_t kDefaultCompletionTokens = 16;  // OpenAI's of /v1/completions

Status ReadStreaming(const JsonObject& body, CompletionAsk* ask) {
  ASSIGN_OR_RETURN(const auto stream, body.Bool("stream"));
  ask->stream = stream.value_or(false);
  const nlohmann::json* options = body.Find("stream_options");
  if (options == nullptr) return absl::OkStatus();
  if (!ask->stream) return body.Refuse("stream_options", "it is for streams alone: set \"stream\" to true");
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(*options, "stream_options"));
  ASSIGN_OR_RETURN(const auto usage, object.Bool("include_usage"));
  ask->include_usage = usage.value_or(false);
  return absl::OkStatus();
}

// `request` as every choice of the prompt starts from it. Choice i of a request with a seed draws by seed +
// i, so that the first is the answer that n = 1 gives.
Status AddChoices(const AskContext& context, AnswerRequest request, CompletionAsk* ask) {
  RETURN_IF_ERROR(CompleteRequest(&request, context.limits, context.text.vocab_size()));
  for (uint32_t i = 0; i < ask->n; ++i) {
    AnswerRequest choice = request;
    if (choice.sampling.seed) *choice.sampling.seed += i;
    ask->requests.push_back(std::move(choice));
  }
  return absl::OkStatus();
}

Status CheckSize(const CompletionAsk& ask, const AskContext& context) {
  if (ask.stream || ask.requests.empty() || !ask.requests.front().sampling.logprobs) return absl::OkStatus();
  const SamplingParams& sampling = ask.requests.front().sampling;
  const uint64_t tokens = std::min(sampling.max_tokens, context.text.context_tokens());
  const uint64_t values = tokens * (1 + *sampling.logprobs) * ask.requests.size();
  if (values <= kMaxWholeLogprobs) return absl::OkStatus();
  return OfField(absl::InvalidArgumentError(absl::StrCat(
                     "logprobs of ", ask.requests.size(), " choices of ", tokens, " tokens with ",
                     *sampling.logprobs, " alternatives are ", values, " values, at most ", kMaxWholeLogprobs,
                     " are held for an answer that is sent whole; set max_tokens, or \"stream\": true")),
                 "logprobs");
}

}  // namespace

StatusOr<CompletionAsk> ReadChatAsk(const nlohmann::json& json, const AskContext& context) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Of(json, ""));
  CompletionAsk ask;
  AnswerRequest request;
  request.context = ContextOf(context.request);
  RETURN_IF_ERROR(ReadAnswerFields(body, &request));
  ASSIGN_OR_RETURN(request.sampling.constraint, ReadConstraint(body, context.request.body));
  ASSIGN_OR_RETURN(request.input.chat, ReadMessages(body));
  RETURN_IF_ERROR(ReadStreaming(body, &ask));
  ASSIGN_OR_RETURN(const auto n, body.Int("n", 1, kMaxChoices));
  ask.n = static_cast<uint32_t>(n.value_or(1));
  ASSIGN_OR_RETURN(const auto echo, body.Bool("echo"));
  if (echo.value_or(false)) return body.Refuse("echo", "it is served by /v1/completions alone");
  ASSIGN_OR_RETURN(const auto max_tokens, body.Int("max_tokens", 1, UINT32_MAX));
  ASSIGN_OR_RETURN(const auto max_new, body.Int("max_completion_tokens", 1, UINT32_MAX));
  // Without either an answer may be as long as the context has room for.
  request.sampling.max_tokens = static_cast<uint32_t>(
      max_new.value_or(max_tokens.value_or(std::max<uint32_t>(1, context.text.context_tokens()))));
  ASSIGN_OR_RETURN(const auto logprobs, body.Bool("logprobs"));
  ASSIGN_OR_RETURN(const auto top, body.Int("top_logprobs", 0, kMaxLogprobs));
  if (top && *top > 0 && !logprobs.value_or(false)) {
    return body.Refuse("top_logprobs", "it is for answers with log-probabilities: set \"logprobs\" to true");
  }
  if (logprobs.value_or(false)) request.sampling.logprobs = static_cast<uint32_t>(top.value_or(0));
  RETURN_IF_ERROR(AddChoices(context, std::move(request), &ask));
  RETURN_IF_ERROR(CheckSize(ask, context));
  return ask;
}

StatusOr<CompletionAsk> ReadCompletionAsk(const nlohmann::json& json, const AskContext& context) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Of(json, ""));
  CompletionAsk ask;
  ask.chat = false;
  AnswerRequest request;
  request.context = ContextOf(context.request);
  RETURN_IF_ERROR(ReadAnswerFields(body, &request));
  ASSIGN_OR_RETURN(request.sampling.constraint, ReadConstraint(body, context.request.body));
  const nlohmann::json* prompt = body.Find("prompt");
  if (prompt != nullptr && prompt->is_array() && !prompt->empty() && !prompt->front().is_string()) {
    return body.Refuse("prompt",
                       "text is expected: token ids of another tokenizer would mean something else");
  }
  ASSIGN_OR_RETURN(const auto prompts, body.Strings("prompt", /*or_one=*/true));
  if (!prompts || prompts->empty()) return body.Refuse("prompt", "a string or a list of strings is expected");
  RETURN_IF_ERROR(ReadStreaming(body, &ask));
  ASSIGN_OR_RETURN(const auto n, body.Int("n", 1, kMaxChoices));
  ask.n = static_cast<uint32_t>(n.value_or(1));
  ASSIGN_OR_RETURN(const auto best_of, body.Int("best_of", 1, kMaxChoices));
  if (best_of && *best_of != ask.n) return body.Refuse("best_of", "only as many as \"n\" are drawn here");
  if (prompts->size() * ask.n > kMaxChoices) {
    return OfField(absl::InvalidArgumentError(absl::StrCat(
                       "prompt has ", prompts->size(), " entries, which with n = ", ask.n, " are ",
                       prompts->size() * ask.n, " choices; at most ", kMaxChoices, " are allowed")),
                   "prompt");
  }
  ASSIGN_OR_RETURN(const auto echo, body.Bool("echo"));
  ask.echo = echo.value_or(false);
  // Without an answer there is something to send only where the prompt is wanted back.
  ASSIGN_OR_RETURN(const auto max_tokens, body.Int("max_tokens", ask.echo ? 0 : 1, UINT32_MAX));
  request.without_answer = max_tokens == 0;
  request.sampling.max_tokens =
      std::max(1u, static_cast<uint32_t>(max_tokens.value_or(kDefaultCompletionTokens)));
  ASSIGN_OR_RETURN(const auto logprobs, body.Int("logprobs", 0, kMaxLogprobs));
  if (logprobs) request.sampling.logprobs = static_cast<uint32_t>(*logprobs);
  if (logprobs && ask.echo) request.max_prompt_logprobs = kMaxWholeLogprobs / (prompts->size() * ask.n);
  for (const std::string& text : *prompts) {
    AnswerRequest one = request;
    one.input.prompt = text;
    RETURN_IF_ERROR(AddChoices(context, std::move(one), &ask));
  }
  RETURN_IF_ERROR(CheckSize(ask, context));
  return ask;
}

}  // namespace coterie::gateway::http
