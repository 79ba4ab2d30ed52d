#include "gateway/http/api/collaboration_fields.h"

#include <utility>

#include "common/quoted.h"
#include "common/refused_field.h"

namespace coterie::gateway::http {
namespace {

// Sixteen members with whole digests and weights have less.
constexpr size_t kMaxModelBytes = 4096;

Status NoSuchModel(std::string_view model) {
  return OfField(absl::NotFoundError(absl::StrCat(
                     "there is no model ", Quoted(model), ": \"auto\", \"base\", the names of experts ",
                     "(GET /v1/models), and several as \"mixture:NAME:WEIGHT,NAME:WEIGHT\" are")),
                 "model");
}

// `mode` and `list` are what stands before and behind the first colon of `model`; an expert's name has none.
StatusOr<CollaborationAsk> ParseSeveral(std::string_view model, size_t colon) {
  if (model.size() > kMaxModelBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("it has ", model.size(), " bytes, at most ", kMaxModelBytes, " are allowed"));
  }
  RequestedCollaboration requested;
  requested.mode = std::string(model.substr(0, colon));
  ASSIGN_OR_RETURN(requested.members, ParseMemberList(model.substr(colon + 1)));
  return CompleteCollaboration(requested);
}

StatusOr<RequestedMember> ReadMember(const nlohmann::json& value, const std::string& path) {
  if (value.is_string()) return RequestedMember{value.get<std::string>(), std::nullopt};
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(value, path));
  RequestedMember member;
  ASSIGN_OR_RETURN(auto expert, object.String("expert"));
  if (!expert) return object.Refuse("expert", "the name of an expert is expected");
  member.expert = *std::move(expert);
  ASSIGN_OR_RETURN(const auto weight, object.Number("weight"));
  if (weight) member.weight = static_cast<float>(*weight);
  RETURN_IF_ERROR(object.RefuseOthers({"expert", "weight"}));
  return member;
}

}  // namespace

StatusOr<ModelAsk> ReadModel(const JsonObject& body) {
  ASSIGN_OR_RETURN(const auto given, body.String("model"));
  const std::string model = given.value_or("auto");
  ModelAsk ask;
  const size_t colon = model.find(':');
  if (colon == std::string::npos) {
    StatusOr<ExpertSelector> expert = ParseExpertSelector(model);
    if (!expert.ok()) return NoSuchModel(model);
    ask.expert = *std::move(expert);
    return ask;
  }
  StatusOr<CollaborationAsk> several = ParseSeveral(model, colon);
  if (!several.ok()) {
    // Other servers' models have colons, too ("llama3:8b"): what is no mode is no collaboration of ours.
    const bool no_mode = FieldOf(several.status()) == "collaboration.mode";
    if (no_mode && !absl::IsUnimplemented(several.status())) return NoSuchModel(model);
    return OfField(Annotate(several.status(), absl::StrCat("model ", Quoted(model))), "model");
  }
  ask.several = *std::move(several);
  return ask;
}

StatusOr<CollaborationAsk> ReadCollaboration(const nlohmann::json& value, std::string path) {
  ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(value, std::move(path)));
  RequestedCollaboration requested;
  ASSIGN_OR_RETURN(auto mode, object.String("mode"));
  ASSIGN_OR_RETURN(const auto k, object.Int("k", 0, UINT32_MAX));
  requested.k = static_cast<uint32_t>(k.value_or(0));
  if (const nlohmann::json* members = object.Find("members"); members != nullptr) {
    if (!members->is_array()) return object.Refuse("members", "a list of experts is expected");
    for (size_t i = 0; i < members->size(); ++i) {
      ASSIGN_OR_RETURN(RequestedMember member,
                       ReadMember((*members)[i], absl::StrCat(object.PathOf("members"), "[", i, "]")));
      requested.members.push_back(std::move(member));
    }
  }
  ASSIGN_OR_RETURN(auto gate, object.String("gate"));
  requested.gate = std::move(gate).value_or("");
  requested.mode = mode.value_or(requested.gate.empty() ? "mixture" : "gated");
  ASSIGN_OR_RETURN(const auto top_k, object.Int("top_k", 0, UINT32_MAX));
  if (top_k) requested.top_k = static_cast<uint32_t>(*top_k);
  RETURN_IF_ERROR(object.RefuseOthers({"mode", "members", "k", "gate", "top_k"}));
  return CompleteCollaboration(requested);
}

}  // namespace coterie::gateway::http
