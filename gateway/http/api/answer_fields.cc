#include "gateway/http/api/answer_fields.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/quoted.h"
#include "common/refused_field.h"
#include "gateway/http/api/collaboration_fields.h"

namespace coterie::gateway::http {
namespace {

using Json = nlohmann::json;

StatusOr<std::string> ReadPart(const Json& part, const std::string& path) {
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(part, path));
  ASSIGN_OR_RETURN(const auto type, object.String("type"));
  if (type.value_or("text") != "text") {
    return object.Refuse("type", "only parts of type \"text\" are served: this model reads text");
  }
  ASSIGN_OR_RETURN(auto text, object.String("text"));
  if (!text) return object.Refuse("text", "a string is expected");
  return *std::move(text);
}

StatusOr<std::string> ReadContent(const JsonObject& message) {
  const Json* content = message.Find("content");
  if (content == nullptr) return message.Refuse("content", "a string or a list of parts is expected");
  if (content->is_string()) return content->get<std::string>();
  if (!content->is_array()) return message.Refuse("content", "a string or a list of parts is expected");
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    ASSIGN_OR_RETURN(const std::string part,
                     ReadPart((*content)[i], absl::StrCat(message.PathOf("content"), "[", i, "]")));
    if (i > 0) text += '\n';
    text += part;
  }
  return text;
}

StatusOr<ChatMessage> ReadMessage(const Json& value, const std::string& path) {
  ASSIGN_OR_RETURN(const JsonObject message, JsonObject::Of(value, path));
  ASSIGN_OR_RETURN(auto role, message.String("role"));
  if (!role) return message.Refuse("role", "a string is expected");
  if (*role == "developer") role = "system";
  if (*role != "system" && *role != "user" && *role != "assistant") {
    return message.Refuse("role", "\"system\", \"developer\", \"user\" or \"assistant\" is expected");
  }
  for (const char* field : {"tool_calls", "function_call", "audio"}) {
    const Json* calls = message.Find(field);
    if (calls != nullptr && !calls->empty()) return message.Refuse(field, "it is not served here");
  }
  ASSIGN_OR_RETURN(std::string content, ReadContent(message));
  return ChatMessage{*std::move(role), std::move(content)};
}

Status ReadLogitBias(const JsonObject& body, SamplingParams* params) {
  const Json* bias = body.Find("logit_bias");
  if (bias == nullptr) return absl::OkStatus();
  if (!bias->is_object()) return body.Refuse("logit_bias", "an object of token ids and numbers is expected");
  for (const auto& [key, value] : bias->items()) {
    uint32_t id = 0;
    const std::string path = absl::StrCat("logit_bias[", Shown(key, 32), "]");
    if (!absl::SimpleAtoi(key, &id)) {
      return OfField(absl::InvalidArgumentError(absl::StrCat("logit_bias names token ", Quoted(key, 32),
                                                             "; a token id is expected")),
                     "logit_bias");
    }
    if (!value.is_number()) return RefuseValue(path, value, "a number is expected");
    params->logit_bias.emplace_back(id, static_cast<float>(value.get<double>()));
  }
  std::sort(params->logit_bias.begin(), params->logit_bias.end());
  return absl::OkStatus();
}

Status ReadFloat(const JsonObject& body, std::string_view key, float* value) {
  ASSIGN_OR_RETURN(const auto number, body.Number(key));
  if (number) *value = static_cast<float>(*number);
  return absl::OkStatus();
}

Status ReadSampling(const JsonObject& body, SamplingParams* params) {
  params->temperature = 1.0f;  // OpenAI's default
  RETURN_IF_ERROR(ReadFloat(body, "temperature", &params->temperature));
  RETURN_IF_ERROR(ReadFloat(body, "top_p", &params->top_p));
  RETURN_IF_ERROR(ReadFloat(body, "min_p", &params->min_p));
  RETURN_IF_ERROR(ReadFloat(body, "presence_penalty", &params->presence_penalty));
  RETURN_IF_ERROR(ReadFloat(body, "frequency_penalty", &params->frequency_penalty));
  RETURN_IF_ERROR(ReadFloat(body, "repetition_penalty", &params->repetition_penalty));
  ASSIGN_OR_RETURN(const auto top_k, body.Int("top_k", -1, INT32_MAX));  // vLLM's -1: all
  if (top_k) params->top_k = static_cast<uint32_t>(std::max<int64_t>(0, *top_k));
  ASSIGN_OR_RETURN(const auto seed, body.Int("seed", INT64_MIN, INT64_MAX));
  if (seed) params->seed = static_cast<uint64_t>(*seed);
  ASSIGN_OR_RETURN(auto stop, body.Strings("stop", /*or_one=*/true));
  if (stop) params->stop = *std::move(stop);
  ASSIGN_OR_RETURN(params->stop_token_ids, body.TokenIds("stop_token_ids"));
  ASSIGN_OR_RETURN(const auto ignore_eos, body.Bool("ignore_eos"));
  params->ignore_eos = ignore_eos.value_or(false);
  return ReadLogitBias(body, params);
}

// Fields that mean something to those who set them. Values that ask for nothing are let through.
struct Unserved {
  const char* name;
  const char* words;
};
constexpr Unserved kUnserved[] = {
    {"tools", "tools are not served here"},
    {"functions", "functions are not served here"},
    {"guided_grammar", "grammars are not served here; a JSON schema, a regex or a choice is"},
    {"audio", "only text is served here"},
    {"modalities", "only [\"text\"] is served here"},
    {"prediction", "predicted outputs are not served here"},
    {"web_search_options", "web search is not served here"},
    {"suffix", "a suffix is not served here: text is only continued"},
    {"use_beam_search", "beam search is not served here"},
    {"length_penalty", "beam search is not served here"},
    {"min_tokens", "a least length is not served here"},
    {"bad_words", "bad words are not served here; logit_bias is"},
    {"allowed_token_ids", "a list of allowed tokens is not served here"},
    {"prompt_logprobs", "log-probabilities of the prompt are not served here; the RPC Score gives them"},
    {"continue_final_message", "an answer that goes on a message is not served here"},
    {"chat_template", "only the model's own template is served here"},
    {"documents", "documents are not served here; write them into a message"},
    {"truncate_prompt_tokens", "prompts are not cut here"},
};

// Whether a value asks for nothing: absent, null, false, 0, empty, or the default by its name.
bool AsksForNothing(std::string_view name, const Json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) {
    const auto number = value.get<double>();
    return number == 0 || (name == "length_penalty" && number == 1);
  }
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  if (value.empty()) return true;
  return name == "modalities" && value == Json::array({"text"});
}

}  // namespace

RequestContext ContextOf(const HttpRequest& request) {
  RequestContext context;
  context.caller_trace = ReadTraceContext(request.Header("traceparent"), request.Header("tracestate"));
  context.trace_id = context.caller_trace ? context.caller_trace.trace.ToHex() : request.id;
  context.connection = absl::StrCat(request.peer.ToString(), " ", request.peer.port);
  return context;
}

StatusOr<std::vector<ChatMessage>> ReadMessages(const JsonObject& body) {
  const Json* list = body.Find("messages");
  if (list == nullptr || !list->is_array() || list->empty()) {
    return body.Refuse("messages", "a list of at least one message is expected");
  }
  std::vector<ChatMessage> messages;
  messages.reserve(list->size());
  for (size_t i = 0; i < list->size(); ++i) {
    ASSIGN_OR_RETURN(ChatMessage message, ReadMessage((*list)[i], absl::StrCat("messages[", i, "]")));
    messages.push_back(std::move(message));
  }
  return messages;
}

StatusOr<TextInput> ReadPromptOrMessages(const JsonObject& body, std::initializer_list<const char*> names) {
  TextInput input;
  bool given = body.Find("messages") != nullptr;
  if (given) {
    ASSIGN_OR_RETURN(input.chat, ReadMessages(body));
  }
  for (const char* name : names) {
    ASSIGN_OR_RETURN(auto text, body.String(name));
    if (!text) continue;
    if (std::exchange(given, true)) {
      return body.Refuse(input.prompt ? name : "messages", "one text or messages are expected, not several");
    }
    input.prompt = std::move(text);
  }
  if (!given) return body.Refuse(*names.begin(), "a string, or \"messages\", is expected");
  return input;
}

Status ReadRoutingFields(const JsonObject& body, AnswerRequest* request) {
  ASSIGN_OR_RETURN(ModelAsk model, ReadModel(body));
  request->expert = std::move(model.expert);
  request->routing.collaboration = std::move(model.several);
  ASSIGN_OR_RETURN(const auto priority, body.Int("priority", -kMaxPriority, kMaxPriority));
  request->context.priority = static_cast<int32_t>(priority.value_or(0));
  ASSIGN_OR_RETURN(auto salt, body.String("cache_salt"));
  if (salt) request->context.cache_salt = *std::move(salt);
  const Json* own = body.Find("coterie");
  if (own == nullptr) return absl::OkStatus();
  ASSIGN_OR_RETURN(const JsonObject ours, JsonObject::Of(*own, "coterie"));
  ASSIGN_OR_RETURN(auto tags, ours.Strings("tags", /*or_one=*/false));
  if (tags) request->routing.tags = *std::move(tags);
  ASSIGN_OR_RETURN(auto allowed, ours.Strings("allowed_experts", /*or_one=*/false));
  if (allowed) request->routing.allowed_experts = *std::move(allowed);
  ASSIGN_OR_RETURN(auto policy, ours.String("policy"));
  if (policy) request->routing.policy = *std::move(policy);
  ASSIGN_OR_RETURN(const auto no_shadow, ours.Bool("no_shadow"));
  request->context.no_shadow = no_shadow.value_or(false);
  if (const Json* several = ours.Find("collaboration"); several != nullptr) {
    if (request->routing.collaboration.mode != CollaborationMode::kNone) {
      return ours.Refuse("collaboration",
                         "\"model\" names several experts already; leave one of the two out");
    }
    ASSIGN_OR_RETURN(request->routing.collaboration,
                     ReadCollaboration(*several, ours.PathOf("collaboration")));
  }
  return ours.RefuseOthers({"tags", "allowed_experts", "policy", "no_shadow", "collaboration"});
}

Status ReadAnswerFields(const JsonObject& body, AnswerRequest* request) {
  RETURN_IF_ERROR(RefuseUnserved(body));
  RETURN_IF_ERROR(ReadRoutingFields(body, request));
  return ReadSampling(body, &request->sampling);
}

Status RefuseUnserved(const JsonObject& body) {
  for (const Unserved& field : kUnserved) {
    const Json* value = body.Find(field.name);
    if (value != nullptr && !AsksForNothing(field.name, *value)) return body.Refuse(field.name, field.words);
  }
  for (const char* name : {"tool_choice", "function_call"}) {
    const Json* value = body.Find(name);
    if (value != nullptr && *value != "none" && *value != "auto") {
      return body.Refuse(name, "tools are not served here");
    }
  }
  const Json* prompt_flag = body.Find("add_generation_prompt");
  if (prompt_flag != nullptr && *prompt_flag != true) {
    return body.Refuse("add_generation_prompt", "only true is served here");
  }
  return absl::OkStatus();
}

}  // namespace coterie::gateway::http
