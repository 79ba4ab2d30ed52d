#include "model/chat/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/utf8.h"
#include "model/chat/jinja/interpreter.h"
#include "model/chat/jinja/json.h"
#include "model/chat/jinja/parser.h"

namespace coterie {
namespace {

using jinja::Value;

// Roles every caller may take: as trustworthy as the template, which may build a special token from them
// ('<|' + role + '|>'). Any other role is the caller's own text.
constexpr std::string_view kKnownRoles[] = {"system", "developer", "user",   "assistant",
                                            "tool",   "function",  "ipython"};

StatusOr<Value> WithTrustedRole(const Value& message, const jinja::Limits& limits) {
  const Value* role = message.dict()->Find("role");
  if (!role || !role->text()) return message;
  for (const std::string_view known : kKnownRoles) {
    if (role->text()->bytes() != known) continue;
    jinja::DictBuilder copy;
    for (const auto& [key, value] : message.dict()->items()) {
      const bool is_role = key.text() && key.text()->bytes() == "role";
      RETURN_IF_ERROR(copy.Set(key, is_role ? Value(jinja::Text::Trusted(known)) : value));
    }
    return copy.Build(limits);
  }
  return message;
}

StatusOr<Value> Messages(std::string_view json, const jinja::Limits& limits) {
  ASSIGN_OR_RETURN(const Value parsed, jinja::FromJson(json, limits));
  if (!parsed.list()) return absl::InvalidArgumentError("must be an array");
  std::vector<Value> messages;
  for (const Value& message : parsed.list()->items) {
    if (!message.dict()) {
      return absl::InvalidArgumentError(absl::StrCat("message ", messages.size(), " is no object"));
    }
    ASSIGN_OR_RETURN(Value trusted, WithTrustedRole(message, limits));
    messages.push_back(std::move(trusted));
  }
  return jinja::List::Make(std::move(messages), limits);
}

using Variables = std::vector<std::pair<std::string, Value>>;

constexpr size_t kMaxExtraVariables = 64;

// Adds the request's own variables, which may not replace one of the server's; `documents` alone is there to
// be set by requests.
Status AddExtraVariables(std::string_view json, const jinja::Limits& limits, Variables* variables) {
  if (json.empty()) return absl::OkStatus();
  StatusOr<Value> extra = jinja::FromJson(json, limits);
  if (!extra.ok()) return Annotate(extra.status(), "template variables");
  if (!extra->dict()) return absl::InvalidArgumentError("template variables: must be an object");
  const auto& items = extra->dict()->items();
  if (items.size() > kMaxExtraVariables) {
    return absl::InvalidArgumentError(absl::StrCat("template variables: ", items.size(),
                                                   " are more than the limit of ", kMaxExtraVariables));
  }
  for (const auto& [key, value] : items) {
    const std::string_view name = key.text()->bytes();
    const auto present = std::find_if(variables->begin(), variables->end(),
                                      [&](const auto& variable) { return variable.first == name; });
    if (present == variables->end()) {
      variables->emplace_back(name, value);
    } else if (name == "documents") {
      present->second = value;
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("template variables: '", ToAbsl(name), "' is set by the server"));
    }
  }
  return absl::OkStatus();
}

// Cuts a rendering where trusted text meets untrusted text.
RenderedPrompt PromptOf(const jinja::Text& text) {
  RenderedPrompt prompt;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin + 1;
    while (end < text.size() && text.trusted(end) == text.trusted(begin)) ++end;
    prompt.pieces.push_back({std::string(text.bytes().substr(begin, end - begin)), text.trusted(begin)});
    begin = end;
  }
  return prompt;
}

}  // namespace

struct ChatTemplate::Parsed {
  jinja::Limits limits;
  SpecialTokens special_tokens;
  jinja::Body body;
};

std::string RenderedPrompt::Text() const {
  std::string text;
  for (const PromptPiece& piece : pieces) text += piece.text;
  return text;
}

ChatRequest ChatRequest::Of(const std::vector<ChatMessage>& messages) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const ChatMessage& message : messages) {
    array.push_back({{"role", message.role}, {"content", message.content}});
  }
  ChatRequest request;
  // Bytes that are no UTF-8 become U+FFFD here instead of an exception.
  request.messages_json = array.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  return request;
}

StatusOr<ChatTemplate> ChatTemplate::Create(std::string_view source, SpecialTokens special_tokens,
                                            const jinja::Limits& limits) {
  ChatTemplate result;
  if (source.empty()) return result;
  if (!IsWellFormed(source)) return absl::InvalidArgumentError("chat template: is not UTF-8");
  auto parsed = std::make_shared<Parsed>();
  parsed->limits = limits;
  for (const auto& [name, token] : special_tokens) {
    if (!IsWellFormed(token)) return absl::InvalidArgumentError(absl::StrCat(name, " is not UTF-8"));
  }
  parsed->special_tokens = std::move(special_tokens);
  StatusOr<jinja::Body> body = jinja::Parse(source, limits);
  if (!body.ok()) return Annotate(body.status(), "chat template");
  parsed->body = *std::move(body);
  result.parsed_ = std::move(parsed);
  return result;
}

ChatTemplate ChatTemplate::Unusable(const Status& why) {
  ChatTemplate result;
  result.unusable_ = absl::FailedPreconditionError(
      absl::StrCat("this model's chat template cannot be used: ", why.message(),
                   "; send a prompt (plain text) instead of messages, or mend the template"));
  return result;
}

StatusOr<RenderedPrompt> ChatTemplate::Render(const ChatRequest& request) const {
  RETURN_IF_ERROR(unusable_);
  if (!parsed_) {
    return absl::FailedPreconditionError(
        "this model has no chat template: send a prompt (plain text) instead of messages");
  }
  const jinja::Limits& limits = parsed_->limits;
  Variables variables;
  for (const auto& [name, token] : parsed_->special_tokens)
    variables.emplace_back(name, jinja::Text::Trusted(token));

  StatusOr<Value> messages = Messages(request.messages_json, limits);
  if (!messages.ok()) return Annotate(messages.status(), "messages");
  variables.emplace_back("messages", *std::move(messages));
  Value tools;
  if (!request.tools_json.empty()) {
    StatusOr<Value> parsed = jinja::FromJson(request.tools_json, limits);
    if (!parsed.ok()) return Annotate(parsed.status(), "tools");
    tools = *std::move(parsed);
  }
  variables.emplace_back("tools", std::move(tools));
  variables.emplace_back("documents", Value());
  variables.emplace_back("add_generation_prompt", Value(request.add_generation_prompt));
  RETURN_IF_ERROR(AddExtraVariables(request.extra_json, limits, &variables));

  jinja::Interpreter interpreter(limits, request.now, request.time_zone);
  StatusOr<jinja::Text> text = interpreter.Render(parsed_->body, std::move(variables));
  if (!text.ok()) {
    return interpreter.raised() ? text.status() : Annotate(text.status(), "chat template");
  }
  return PromptOf(*text);
}

}  // namespace coterie
