// coterie experts list|show|swap|promote|rollback|remove: the experts of a running cluster, through the admin
// listener. `publish` stands in publish.cc, `check` in check.cc.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/quoted.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"
#include "tools/coterie/expert_view.h"
#include "tools/coterie/outcome.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

constexpr uint32_t kPageSize = 1000;

// Mean losses of the prompts that were routed to it, or nothing.
std::string ShadowInWords(const v1::ExpertInfo& info) {
  if (!info.has_shadow()) return "";
  const v1::ShadowReport& shadow = info.shadow();
  std::string words = absl::StrFormat("%d prompts: loss per token %.3f, base %.3f", shadow.prompts(),
                                      shadow.chosen_loss(), shadow.base_loss());
  if (shadow.runner_up_prompts() > 0) {
    absl::StrAppend(&words, absl::StrFormat(", runner-up %.3f", shadow.runner_up_loss()));
  }
  absl::StrAppend(
      &words, absl::StrFormat("; regret %.3f ± %.3f nats", shadow.regret(), shadow.regret_standard_error()));
  if (shadow.canary_prompts() > 0) {
    absl::StrAppend(&words,
                    absl::StrFormat("; canary minus live %+.3f ± %.3f over %d", shadow.canary_difference(),
                                    shadow.canary_standard_error(), shadow.canary_prompts()));
  }
  return words;
}

// The scores of the questions it gets, or nothing.
std::string DriftInWords(const v1::ExpertInfo& info) {
  if (!info.has_drift()) return "";
  const v1::DriftReport& drift = info.drift();
  const std::string reference =
      absl::StrFormat("its own texts %.3f (%d measured)", drift.reference_mean(), drift.reference_n());
  if (drift.questions() == 0) return absl::StrCat("no question yet; ", reference);
  return absl::StrFormat("mean score of its questions %.3f (%d seen), %s", drift.mean_score(),
                         drift.questions(), reference);
}

// "mixture of 0.59 postgres@0123456789ab + 0.41 python@89abcdef0123", or nothing for an adapter.
template <typename Info>
std::string MembersInWords(const Info& info) {
  std::string words;
  for (const v1::ExpertMember& member : info.members()) {
    absl::StrAppend(
        &words, words.empty() ? ModeName(info.mode()) + " of " : " + ",
        absl::StrFormat("%.2f %s@%s", member.weight(), member.name(), member.digest().substr(0, 12)));
  }
  return words;
}

// "version 2 (0123456789ab) with 10 % of its requests", or nothing.
std::string CanaryInWords(const v1::ExpertInfo& info) {
  if (!info.has_canary()) return "";
  const std::string members = MembersInWords(info.canary());
  return absl::StrFormat("version %s (%s) with %g %% of its requests%s%s", info.canary().version(),
                         info.canary().digest().substr(0, 12), info.canary().share() * 100,
                         members.empty() ? "" : ", a ", members);
}

std::string Megabytes(uint64_t bytes) {
  return absl::StrFormat("%.1f MB", static_cast<double>(bytes) * 1e-6);
}

// Every page. The catalogue may change between two of them: names come in order, so none is shown twice.
StatusOr<std::vector<v1::ExpertInfo>> ListAll(client::Client* client, uint64_t* generation) {
  std::vector<v1::ExpertInfo> experts;
  v1::ListExpertsRequest request;
  request.set_page_size(kPageSize);
  do {
    ASSIGN_OR_RETURN(v1::ListExpertsResponse page, client->ListExperts(request));
    if (page.next_page_token() == request.page_token() && !page.next_page_token().empty()) {
      return absl::InternalError("the gateway repeats a page of its list of experts");
    }
    std::move(page.mutable_experts()->begin(), page.mutable_experts()->end(), std::back_inserter(experts));
    request.set_page_token(page.next_page_token());
    *generation = page.catalogue_generation();
  } while (!request.page_token().empty());
  return experts;
}

int RunList(std::span<const std::string> args) {
  Connection connection;
  FlagSet flags("coterie experts list", "Lists the experts that are live.");
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  uint64_t generation = 0;
  const StatusOr<std::vector<v1::ExpertInfo>> experts = ListAll(&client, &generation);
  if (!experts.ok()) return Fail(experts.status(), connection.json);
  if (connection.json) {
    for (const v1::ExpertInfo& info : *experts) std::printf("%s\n", Dump(InfoToJson(info)).c_str());
    return kDone;
  }
  std::vector<std::vector<std::string>> rows = {
      {"name", "version", "digest", "size", "prototypes", "resident on", "regret", "tags", "description"}};
  for (const v1::ExpertInfo& info : *experts) {
    rows.push_back({info.name(), Printable(info.version()), info.digest().substr(0, 12),
                    Megabytes(info.adapter_bytes()), absl::StrCat(info.prototypes()),
                    info.resident_on().empty() ? "-" : absl::StrJoin(info.resident_on(), ","),
                    info.has_shadow() ? absl::StrFormat("%.3f", info.shadow().regret()) : "-",
                    Printable(absl::StrJoin(info.tags(), ",")), Printable(info.description())});
  }
  std::printf("%s\n%d experts, catalogue generation %d\n", FormatTable(rows).c_str(),
              static_cast<int>(experts->size()), static_cast<int>(generation));
  for (const v1::ExpertInfo& info : *experts) {
    if (info.members().empty()) continue;
    std::printf("%s is a %s\n", info.name().c_str(), Printable(MembersInWords(info)).c_str());
  }
  for (const v1::ExpertInfo& info : *experts) {
    if (!info.has_canary()) continue;
    std::printf("%s has a canary: %s\n", info.name().c_str(), Printable(CanaryInWords(info)).c_str());
  }
  for (const v1::ExpertInfo& info : *experts) {
    for (const std::string& finding : info.findings()) std::printf("%s\n", Printable(finding).c_str());
  }
  return kDone;
}

int RunShow(std::span<const std::string> args) {
  Connection connection;
  FlagSet flags("coterie experts show", "Shows one expert and its card.");
  flags.Positionals("NAME[@DIGEST]", 1, 1);
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  const StatusOr<v1::GetExpertResponse> response = client.GetExpert(flags.positionals()[0]);
  if (!response.ok()) return Fail(response.status(), connection.json);
  const v1::ExpertInfo& info = response->expert();
  if (connection.json) {
    nlohmann::json json = InfoToJson(info);
    json["card"] = response->card();
    std::printf("%s\n", Dump(json).c_str());
    return kDone;
  }
  const Terminal terminal(stdout);
  const auto line = [&](std::string_view name, const std::string& value) {
    if (!value.empty()) {
      std::printf("%s %s\n", terminal.Dim(absl::StrFormat("%-12s", std::string(name))).c_str(),
                  Printable(value).c_str());
    }
  };
  std::printf("%s  %s\n", terminal.Bold(info.name()).c_str(), Printable(info.description()).c_str());
  line("version", info.version());
  line("digest", info.digest());
  line("revision", info.revision());
  line("tags", absl::StrJoin(info.tags(), ", "));
  line("licence", info.licence());
  line("prototypes", absl::StrCat(info.prototypes()));
  line(info.members().empty() ? "adapter" : "adapters", Megabytes(info.adapter_bytes()));
  line("made of", MembersInWords(info));
  line("resident on", absl::StrJoin(info.resident_on(), ", "));
  line("canary", CanaryInWords(info));
  line("shadow", ShadowInWords(info));
  line("questions", DriftInWords(info));
  for (const std::string& finding : info.findings()) line("look at", finding);
  line("before", absl::StrJoin(info.previous_digests(), ", "));
  std::printf("\n%s", Printable(response->card()).c_str());
  return kDone;
}

int RunRemove(std::span<const std::string> args) {
  Connection connection;
  FlagSet flags("coterie experts remove",
                "Withdraws experts with all their versions. Answers that have begun end as they began.");
  flags.Positionals("NAME...", 1, 10'000);
  bool force = false;
  flags.Bool(
      "force", &force,
      "also where mixtures or blends have it as a member: they go on with the version that they pinned");
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  Outcome outcome(connection.json);
  for (const std::string& name : flags.positionals()) {
    const StatusOr<v1::RemoveExpertResponse> response = client.RemoveExpert(name, force);
    if (!response.ok()) {
      if (outcome.Failed(response.status())) continue;
      break;
    }
    if (connection.json) {
      const nlohmann::json json = {{"removed", name},
                                   {"catalogue_generation", response->catalogue_generation()}};
      std::printf("%s\n", Dump(json).c_str());
    } else {
      std::printf("%s is removed (generation %d)\n", name.c_str(),
                  static_cast<int>(response->catalogue_generation()));
    }
    std::fflush(stdout);
  }
  return outcome.exit_code();
}

// What became of an expert, as a response tells it.
template <typename Response>
void PrintChange(const Response& response, bool as_json) {
  if (!as_json) {
    std::printf("%s\n", Printable(response.message()).c_str());
    return;
  }
  nlohmann::json json = InfoToJson(response.expert());
  json["message"] = response.message();
  json["catalogue_generation"] = response.catalogue_generation();
  std::printf("%s\n", Dump(json).c_str());
}

// One name after the other through `call`, whose response says what happened.
template <typename Response>
int ChangeVersions(std::span<const std::string> args, FlagSet* flags,
                   StatusOr<Response> (client::Client::*call)(const std::string& name)) {
  Connection connection;
  AddConnectionFlags(flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  Outcome outcome(connection.json);
  for (const std::string& name : flags->positionals()) {
    const StatusOr<Response> response = (client.*call)(name);
    if (!response.ok()) {
      if (outcome.Failed(response.status())) continue;
      break;
    }
    PrintChange(*response, connection.json);
    std::fflush(stdout);
  }
  return outcome.exit_code();
}

int RunPromote(std::span<const std::string> args) {
  FlagSet flags(
      "coterie experts promote",
      "Makes the canary of each name live; with a digest, only if the canary is that version. Answers "
      "that have begun end as they began.");
  flags.Positionals("NAME[@DIGEST]...", 1, 10'000);
  return ChangeVersions(args, &flags, &client::Client::PromoteExpert);
}

int RunRollBack(std::span<const std::string> args) {
  FlagSet flags("coterie experts rollback",
                "Withdraws the canary of each name; of a name without one, goes back to the version that was "
                "live before, or to the one that a digest names. Answers that have begun end as they began.");
  flags.Positionals("NAME[@DIGEST]...", 1, 10'000);
  return ChangeVersions(args, &flags, &client::Client::RollBackExpert);
}

int RunSwap(std::span<const std::string> args) {
  Connection connection;
  v1::SwapMemberRequest request;
  std::string version;
  double canary_share = 0;
  FlagSet flags(
      "coterie experts swap",
      "Publishes a new version of a mixture or blend with one member replaced. Its other members stay "
      "in the versions that it pinned, and weights stay.");
  flags.Positionals("NAME MEMBER NEW[@DIGEST]", 3, 3);
  flags.String("version", &version, "V", "the card's version; empty: the last number one higher");
  flags.Double("canary", &canary_share, 0, 1, "SHARE",
               "publish it as the canary, for this share of the name's requests; 0: as the live version");
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  request.set_name(flags.positionals()[0]);
  request.set_member(flags.positionals()[1]);
  request.set_with(flags.positionals()[2]);
  request.set_version(version);
  if (canary_share > 0) request.set_canary_share(canary_share);
  const StatusOr<v1::SwapMemberResponse> response = client.SwapMember(request);
  if (!response.ok()) return Fail(response.status(), connection.json);
  PrintChange(*response, connection.json);
  return kDone;
}

constexpr Command kCommands[] = {
    {"list", "list the experts that are live", RunList},
    {"show", "show one expert and its card", RunShow},
    {"publish", "publish expert folders or plain PEFT adapters, or a canary of one", RunPublishExperts},
    {"check", "say everything that is wrong with a folder; needs no cluster", RunCheckExperts},
    {"swap", "another member in the place of one, of a mixture or blend", RunSwap},
    {"promote", "make canaries live", RunPromote},
    {"rollback", "withdraw canaries, or go back to the versions before", RunRollBack},
    {"remove", "withdraw experts", RunRemove},
};

}  // namespace

int RunExperts(std::span<const std::string> args) { return RunOneOf("experts", kCommands, args); }

}  // namespace coterie::command
