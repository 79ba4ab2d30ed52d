// Renders chat templates for a script that compares them with another program: one JSON object a line in, one
// a line out.
//
//   {"template", "messages"?, "tools"?, "add_generation_prompt"?, "special_tokens"?, "extra"?, "now"?}
//   -> {"text"}, or {"error", "code", "stage"}: "parse" where the template is refused as a whole, "render"
//   else.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/time/time.h"
#include "model/chat/chat_template.h"

namespace coterie {
namespace {

using nlohmann::ordered_json;

ordered_json Refusal(const char* stage, const Status& status) {
  return {{"error", std::string(status.message())},
          {"code", absl::StatusCodeToString(status.code())},
          {"stage", stage}};
}

ordered_json Render(const ordered_json& job) {
  ChatTemplate::SpecialTokens special;
  if (job.contains("special_tokens")) {
    for (const auto& [name, token] : job["special_tokens"].items()) special.emplace_back(name, token);
  }
  const auto chat = ChatTemplate::Create(job["template"].get<std::string>(), std::move(special));
  if (!chat.ok()) return Refusal("parse", chat.status());
  if (!chat->present()) return {{"text", ""}};
  ChatRequest request;
  request.messages_json = job.contains("messages") ? job["messages"].dump() : "[]";
  if (job.contains("tools") && !job["tools"].is_null()) request.tools_json = job["tools"].dump();
  if (job.contains("extra")) request.extra_json = job["extra"].dump();
  request.add_generation_prompt = job.value("add_generation_prompt", true);
  request.time_zone = absl::UTCTimeZone();
  request.now = absl::UnixEpoch();
  std::string error;
  if (job.contains("now") &&
      !absl::ParseTime("%Y-%m-%dT%H:%M:%S", job["now"].get<std::string>(), &request.now, &error)) {
    return Refusal("parse", absl::InvalidArgumentError(error));
  }
  const auto prompt = chat->Render(request);
  if (!prompt.ok()) return Refusal("render", prompt.status());
  return {{"text", prompt->Text()}};
}

}  // namespace
}  // namespace coterie

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << coterie::Render(nlohmann::ordered_json::parse(line))
                     .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace)
              << std::endl;
  }
}
