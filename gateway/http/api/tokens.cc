// /tokenize and /detokenize, as vLLM has them: what the model makes of a text, and back.
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/refused_field.h"
#include "gateway/answer/pool_task.h"
#include "gateway/core/apply_pass.h"
#include "gateway/http/api/answer_fields.h"
#include "gateway/http/api/collaboration_fields.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

// The limit of text to be encoded is in bytes, and no token is made of less than one.
StatusOr<std::vector<int32_t>> Encode(const GatewayCore* core, const TextInput& input) {
  const size_t most = core->limits.max_input_bytes;
  StatusOr<std::vector<int32_t>> ids =
      input.prompt ? core->text->EncodePrompt(*input.prompt, most) : core->text->EncodeChat(input.chat, most);
  // Beyond a limit of the tokenizer or template it stays beyond it: trying again is no use.
  if (absl::IsResourceExhausted(ids.status())) return absl::InvalidArgumentError(ids.status().message());
  return ids;
}

struct TokenizeAsk {
  TextInput input;
  bool with_strings = false;
};

StatusOr<TokenizeAsk> ReadTokenizeAsk(const GatewayCore* core, const nlohmann::json& json) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Of(json, ""));
  RETURN_IF_ERROR(ReadModel(body).status());
  RETURN_IF_ERROR(RefuseUnserved(body));
  TokenizeAsk ask;
  ASSIGN_OR_RETURN(ask.input, ReadPromptOrMessages(body, {"prompt"}));
  RETURN_IF_ERROR(ValidateInput(ask.input, core->limits));
  ASSIGN_OR_RETURN(const auto special, body.Bool("add_special_tokens"));
  if (special && !*special && ask.input.prompt) {
    return body.Refuse("add_special_tokens", "prompts are always encoded as the model reads them");
  }
  ASSIGN_OR_RETURN(const auto with_strings, body.Bool("return_token_strs"));
  ask.with_strings = with_strings.value_or(false);
  return ask;
}

StatusOr<std::vector<uint32_t>> ReadTokens(const GatewayCore* core, const nlohmann::json& json) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Of(json, ""));
  RETURN_IF_ERROR(ReadModel(body).status());
  if (body.Find("tokens") == nullptr) return body.Refuse("tokens", "a list of token ids is expected");
  ASSIGN_OR_RETURN(std::vector<uint32_t> ids, body.TokenIds("tokens"));
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < core->text->vocab_size()) continue;
    return OfField(
        absl::InvalidArgumentError(absl::StrCat("tokens[", i, "] is ", ids[i], "; the vocabulary has ",
                                                core->text->vocab_size(), " tokens")),
        absl::StrCat("tokens[", i, "]"));
  }
  return ids;
}

std::string TokenizeBody(const GatewayCore* core, const std::vector<int32_t>& ids, bool with_strings) {
  std::string body;
  JsonWriter json(&body);
  json.BeginObject().Key("count").Uint(ids.size());
  json.Key("max_model_len").Uint(core->text->context_tokens()).Key("tokens").BeginArray();
  for (const int32_t id : ids) json.Int(id);
  json.EndArray();
  if (with_strings) {
    json.Key("token_strs").BeginArray();
    for (const int32_t id : ids) json.String(core->text->TokenText(id));
    json.EndArray();
  }
  json.EndObject();
  return body;
}

void RefuseTokens(const Call& call, const char* rpc, const Status& status) {
  call.core()->metrics->CountRequest(rpc, status);
  call.Refuse(status);
}

// Answers with the JSON that `make` returns, by way of admission and the work pool.
void AnswerFromPool(const Call& call, const char* rpc, std::function<StatusOr<std::string>()> make) {
  const auto body = std::make_shared<std::string>();
  RequestContext context = ContextOf(call.request());
  ApplyPass(call.pass, &context);
  const auto task = PoolTask::Create(
      call.core(), rpc, std::move(context),
      [body, make = std::move(make)]() -> Status {
        ASSIGN_OR_RETURN(*body, make());
        return absl::OkStatus();
      },
      [call, body](const Status& status) {
        if (!status.ok()) return call.Refuse(status);
        call.Respond(HttpResponse::Json(std::move(*body)));
      });
  call.exchange->WhenGone([task] { task->Cancel(); });
  task->Begin();
}

}  // namespace

void AnswerTokenize(const Call& call, const nlohmann::json& body) {
  StatusOr<TokenizeAsk> ask = ReadTokenizeAsk(call.core(), body);
  if (!ask.ok()) return RefuseTokens(call, "Tokenize", ask.status());
  AnswerFromPool(call, "Tokenize", [core = call.core(), ask = *std::move(ask)]() -> StatusOr<std::string> {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids, Encode(core, ask.input));
    return TokenizeBody(core, ids, ask.with_strings);
  });
}

void AnswerDetokenize(const Call& call, const nlohmann::json& body) {
  StatusOr<std::vector<uint32_t>> ids = ReadTokens(call.core(), body);
  if (!ids.ok()) return RefuseTokens(call, "Detokenize", ids.status());
  AnswerFromPool(call, "Detokenize", [core = call.core(), ids = *std::move(ids)]() -> StatusOr<std::string> {
    const std::unique_ptr<TextStream> stream = core->text->NewStream({});
    std::string text;
    for (const uint32_t id : ids) text += stream->Append(static_cast<int32_t>(id));
    text += stream->Flush();
    std::string out;
    JsonWriter(&out).BeginObject().Key("prompt").String(text).EndObject();
    return out;
  });
}

}  // namespace coterie::gateway::http
