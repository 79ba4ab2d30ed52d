// /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them; on the operators' listener alone.
#include <string>
#include <utility>

#include "common/refused_field.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/api/json_object.h"
#include "gateway/publish/lora_adapters.h"

namespace coterie::gateway::http {
namespace {

constexpr size_t kMaxExamples = 2000;  // ExampleLimits::max_texts

StatusOr<std::string> ReadName(const JsonObject& body) {
  ASSIGN_OR_RETURN(auto name, body.String("lora_name"));
  if (!name) return body.Refuse("lora_name", "the expert's name is expected");
  return *std::move(name);
}

// Fields that are not known are harmless, as they are to vLLM.
StatusOr<LoraLoad> ReadLoad(const JsonObject& body) {
  LoraLoad load;
  ASSIGN_OR_RETURN(load.name, ReadName(body));
  ASSIGN_OR_RETURN(auto path, body.String("lora_path"));
  if (!path) return body.Refuse("lora_path", "the adapter's folder is expected");
  load.path = *std::move(path);
  ASSIGN_OR_RETURN(const auto in_place, body.Bool("load_inplace"));
  load.in_place = in_place.value_or(false);
  ASSIGN_OR_RETURN(auto description, body.String("description"));
  load.card.description = std::move(description).value_or("");
  ASSIGN_OR_RETURN(auto version, body.String("version"));
  load.card.version = std::move(version).value_or("");
  ASSIGN_OR_RETURN(auto licence, body.String("licence"));
  load.card.licence = std::move(licence).value_or("");
  ASSIGN_OR_RETURN(auto tags, body.Strings("tags", /*or_one=*/false));
  if (tags) load.card.tags = *std::move(tags);
  ASSIGN_OR_RETURN(load.card.min_score, body.Number("min_score"));
  ASSIGN_OR_RETURN(auto examples, body.Strings("examples", /*or_one=*/false));
  if (examples) load.examples = *std::move(examples);
  if (load.examples.size() > kMaxExamples) {
    return OfField(
        absl::InvalidArgumentError(absl::StrCat("examples has ", load.examples.size(), " entries, at most ",
                                                kMaxExamples, " are allowed")),
        "examples");
  }
  return load;
}

LoraAdapters::Done AnswerTo(const Call& call) {
  return [call](StatusOr<std::string> words) {
    if (!words.ok()) return call.Refuse(words.status());
    HttpResponse response;
    response.type = "text/plain; charset=utf-8";
    response.body = std::make_shared<const std::string>(*std::move(words) + "\n");
    call.Respond(std::move(response));
  };
}

}  // namespace

void AnswerLoadLora(const Call& call, const nlohmann::json& json) {
  const StatusOr<JsonObject> body = JsonObject::Of(json, "");
  StatusOr<LoraLoad> load = body.ok() ? ReadLoad(*body) : body.status();
  if (!load.ok()) return call.Refuse(load.status());
  const Status status = call.api->lora()->Load(*std::move(load), AnswerTo(call));
  if (!status.ok()) call.Refuse(status);
}

void AnswerUnloadLora(const Call& call, const nlohmann::json& json) {
  const StatusOr<JsonObject> body = JsonObject::Of(json, "");
  StatusOr<std::string> name = body.ok() ? ReadName(*body) : body.status();
  if (!name.ok()) return call.Refuse(name.status());
  const Status status = call.api->lora()->Unload(*std::move(name), AnswerTo(call));
  if (!status.ok()) call.Refuse(status);
}

}  // namespace coterie::gateway::http
