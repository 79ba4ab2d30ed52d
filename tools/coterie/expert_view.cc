#include "tools/coterie/expert_view.h"

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "coterie/v1/expert.pb.h"
#include "tools/coterie/answer_view.h"

namespace coterie::command {
namespace {

// "postgres@0123456789ab is live (generation 7)".
std::string PublishedInWords(const v1::PublishExpertResponse& response) {
  const v1::ExpertInfo& info = response.expert();
  const std::string& digest = response.canary() ? info.canary().digest() : info.digest();
  std::string state = response.already_published() ? "was already live" : "is live";
  if (response.canary()) {
    state = absl::StrFormat("%s the canary with %g %% of the requests, live is %s",
                            response.already_published() ? "was already" : "is", info.canary().share() * 100,
                            info.digest().substr(0, 12));
  }
  return absl::StrFormat(
      "%s@%s %s (generation %d)%s", info.name(), digest.substr(0, 12), state, response.catalogue_generation(),
      response.repaired() ? "; its files in the store were damaged and are whole again" : "");
}

}  // namespace

nlohmann::json InfoToJson(const v1::ExpertInfo& info) {
  nlohmann::json json = {{"name", info.name()},
                         {"digest", info.digest()},
                         {"revision", info.revision()},
                         {"version", info.version()},
                         {"description", info.description()},
                         {"licence", info.licence()},
                         {"prototypes", info.prototypes()},
                         {"adapter_bytes", info.adapter_bytes()}};
  json["tags"] = std::vector<std::string>(info.tags().begin(), info.tags().end());
  json["previous_digests"] =
      std::vector<std::string>(info.previous_digests().begin(), info.previous_digests().end());
  json["resident_on"] = std::vector<std::string>(info.resident_on().begin(), info.resident_on().end());
  const auto add_members = [](const auto& made, nlohmann::json* to) {
    if (made.members().empty()) return;
    (*to)["mode"] = ModeName(made.mode());
    for (const v1::ExpertMember& member : made.members()) {
      (*to)["members"].push_back(
          {{"name", member.name()}, {"digest", member.digest()}, {"weight", member.weight()}});
    }
  };
  add_members(info, &json);
  if (info.has_canary()) {
    const v1::CanaryInfo& canary = info.canary();
    json["canary"] = {
        {"digest", canary.digest()},
        {"revision", canary.revision()},
        {"version", canary.version()},
        {"adapter_bytes", canary.adapter_bytes()},
        {"share", canary.share()},
        {"resident_on", std::vector<std::string>(canary.resident_on().begin(), canary.resident_on().end())}};
    add_members(canary, &json["canary"]);
  }
  if (info.has_shadow()) {
    const v1::ShadowReport& shadow = info.shadow();
    json["shadow"] = {{"prompts", shadow.prompts()},
                      {"chosen_loss", shadow.chosen_loss()},
                      {"base_loss", shadow.base_loss()},
                      {"regret", shadow.regret()},
                      {"regret_standard_error", shadow.regret_standard_error()}};
    if (shadow.runner_up_prompts() > 0) {
      json["shadow"]["runner_up_loss"] = shadow.runner_up_loss();
      json["shadow"]["runner_up_prompts"] = shadow.runner_up_prompts();
    }
    if (shadow.canary_prompts() > 0) {
      json["shadow"]["canary_prompts"] = shadow.canary_prompts();
      json["shadow"]["canary_difference"] = shadow.canary_difference();
      json["shadow"]["canary_standard_error"] = shadow.canary_standard_error();
    }
  }
  if (info.has_drift()) {
    const v1::DriftReport& drift = info.drift();
    json["drift"] = {{"questions", drift.questions()},
                     {"mean_score", drift.mean_score()},
                     {"shift", drift.shift()},
                     {"shift_standard_error", drift.shift_standard_error()},
                     {"significant", drift.significant()},
                     {"reference",
                      {{"mean_score", drift.reference_mean()},
                       {"std_score", drift.reference_std()},
                       {"n", drift.reference_n()}}}};
  }
  json["findings"] = std::vector<std::string>(info.findings().begin(), info.findings().end());
  return json;
}

void PrintPublished(const v1::PublishExpertResponse& response, bool json) {
  if (json) {
    nlohmann::json object = InfoToJson(response.expert());
    object["already_published"] = response.already_published();
    object["catalogue_generation"] = response.catalogue_generation();
    object["published_as_canary"] = response.canary();
    object["repaired"] = response.repaired();
    std::printf("%s\n", Dump(object).c_str());
  } else {
    std::printf("%s\n", PublishedInWords(response).c_str());
  }
}

}  // namespace coterie::command
