#include "tools/coterie/answer_view.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace coterie::command {

using nlohmann::json;

std::string FinishName(v1::FinishReason reason) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::FinishReason_Name(reason), "FINISH_REASON_"));
}

std::string ModeName(v1::CollaborationMode mode) {
  if (mode == v1::COLLABORATION_MODE_UNSPECIFIED) return "";
  return absl::AsciiStrToLower(absl::StripPrefix(v1::CollaborationMode_Name(mode), "COLLABORATION_MODE_"));
}

namespace {

std::string GateName(v1::GateKind gate) {
  if (gate == v1::GATE_KIND_UNSPECIFIED) return "";
  return absl::AsciiStrToLower(absl::StripPrefix(v1::GateKind_Name(gate), "GATE_KIND_"));
}

}  // namespace

std::string ExpertNames(const v1::RouteDecision& route) {
  if (route.experts().empty()) return "base";
  if (route.experts_size() == 1) return route.experts(0).name();
  std::string names;
  for (const v1::ExpertScore& expert : route.experts()) {
    absl::StrAppend(&names, names.empty() ? "" : " + ");
    // A gate gives weights of its own.
    if (route.gate() == v1::GATE_KIND_UNSPECIFIED) absl::StrAppendFormat(&names, "%.2f ", expert.weight());
    absl::StrAppend(&names, expert.name());
  }
  return names;
}

std::string DescribeRoute(const v1::RouteDecision& route, const Terminal& terminal) {
  const bool composite = route.has_composite();
  const std::string members = ExpertNames(route);
  std::string line = terminal.Bold(composite ? route.composite().name() : members);
  if (composite) absl::StrAppend(&line, " = ", members);
  if (const std::string mode = ModeName(route.mode()); !mode.empty()) absl::StrAppend(&line, "  ", mode);
  if (const std::string gate = GateName(route.gate()); !gate.empty()) {
    absl::StrAppend(&line, " by ", gate, ", ", route.top_k(), " of ", route.experts_size());
  }
  if (!route.experts().empty())
    absl::StrAppend(
        &line, absl::StrFormat("  score %.2f", (composite ? route.composite() : route.experts(0)).score()));
  absl::StrAppend(&line, absl::StrFormat("  margin %.2f", route.margin()));
  if (!route.worker().empty()) absl::StrAppend(&line, "  on ", route.worker());
  return line + terminal.Dim(absl::StrCat("  (", route.reason(), ")"));
}

double TokensPerSecond(const v1::Finish& finish) {
  const double seconds = finish.timings().total_seconds() - finish.timings().first_token_seconds();
  const int tokens =
      static_cast<int>(finish.usage().completion_tokens()) - 1;  // the first came with the prompt
  return tokens > 0 && seconds > 0 ? tokens / seconds : 0;
}

json ToJson(const v1::RouteDecision& route) {
  const auto score = [](const v1::ExpertScore& expert) -> json {
    return {{"name", expert.name()},
            {"digest", expert.digest()},
            {"score", expert.score()},
            {"weight", expert.weight()},
            {"canary", expert.canary()}};
  };
  const auto scores = [&score](const auto& experts) {
    json list = json::array();
    for (const v1::ExpertScore& expert : experts) list.push_back(score(expert));
    return list;
  };
  json object = {{"experts", scores(route.experts())},
                 {"candidates", scores(route.candidates())},
                 {"mode", ModeName(route.mode())},
                 {"gate", GateName(route.gate())},
                 {"top_k", route.top_k()},
                 {"margin", route.margin()},
                 {"policy", route.policy()},
                 {"reason", route.reason()},
                 {"worker", route.worker()},
                 {"placement_reason", route.placement_reason()},
                 {"catalogue_generation", route.catalogue_generation()},
                 {"embed_seconds", route.embed_seconds()},
                 {"search_seconds", route.search_seconds()}};
  if (route.has_composite()) object["composite"] = score(route.composite());
  return object;
}

json ToJson(const v1::Finish& finish) {
  return {{"reason", FinishName(finish.reason())},
          {"stop", finish.stop()},
          {"prompt_tokens", finish.usage().prompt_tokens()},
          {"cached_prompt_tokens", finish.usage().cached_prompt_tokens()},
          {"completion_tokens", finish.usage().completion_tokens()},
          {"routed_seconds", finish.timings().routed_seconds()},
          {"queued_seconds", finish.timings().queued_seconds()},
          {"first_token_seconds", finish.timings().first_token_seconds()},
          {"total_seconds", finish.timings().total_seconds()},
          {"seed", finish.seed()},
          {"worker", finish.worker()},
          {"numerics_class", finish.numerics_class()}};
}

json ToJson(const v1::GenerateResponse& event) {
  switch (event.event_case()) {
    case v1::GenerateResponse::kRoute:
      return {{"route", ToJson(event.route())}};
    case v1::GenerateResponse::kDelta:
      return {{"text", event.delta().text()}};
    case v1::GenerateResponse::kNotice:
      return {{"notice", {{"message", event.notice().message()}, {"worker", event.notice().worker()}}}};
    case v1::GenerateResponse::kFinish:
      return {{"finish", ToJson(event.finish())}};
    case v1::GenerateResponse::EVENT_NOT_SET:
      break;
  }
  return json::object();
}

std::string Dump(const json& json) { return json.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace coterie::command
