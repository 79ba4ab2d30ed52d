// coterie experts list|show|publish|promote|rollback|remove: the experts of a running cluster, through the
// admin listener.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "common/path_name.h"
#include "common/quoted.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"
#include "tools/coterie/publish_folders.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

constexpr uint32_t kPageSize = 1000;

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
  if (info.has_canary()) {
    const v1::CanaryInfo& canary = info.canary();
    json["canary"] = {
        {"digest", canary.digest()},
        {"revision", canary.revision()},
        {"version", canary.version()},
        {"adapter_bytes", canary.adapter_bytes()},
        {"share", canary.share()},
        {"resident_on", std::vector<std::string>(canary.resident_on().begin(), canary.resident_on().end())}};
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

// "version 2 (0123456789ab) with 10 % of its requests", or nothing.
std::string CanaryInWords(const v1::ExpertInfo& info) {
  if (!info.has_canary()) return "";
  return absl::StrFormat("version %s (%s) with %g %% of its requests", info.canary().version(),
                         info.canary().digest().substr(0, 12), info.canary().share() * 100);
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
  line("adapter", Megabytes(info.adapter_bytes()));
  line("resident on", absl::StrJoin(info.resident_on(), ", "));
  line("canary", CanaryInWords(info));
  line("shadow", ShadowInWords(info));
  line("questions", DriftInWords(info));
  for (const std::string& finding : info.findings()) line("look at", finding);
  line("before", absl::StrJoin(info.previous_digests(), ", "));
  std::printf("\n%s", Printable(response->card()).c_str());
  return kDone;
}

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

// Of a command over several experts: each that fails is named and stops none of the others, and the first
// gives the exit code.
class Outcome {
 public:
  explicit Outcome(bool json) : json_(json) {}
  // False where nobody is there to ask about the others.
  bool Failed(const Status& status) {
    const int code = Fail(status, json_);
    if (exit_code_ == kDone) exit_code_ = code;
    return !absl::IsUnavailable(status) && !absl::IsCancelled(status);
  }
  int exit_code() const { return exit_code_; }

 private:
  const bool json_;
  int exit_code_ = kDone;
};

int RunPublish(std::span<const std::string> args) {
  Connection connection;
  std::string name;
  double canary_share = 0;
  FlagSet flags(
      "coterie experts publish",
      "Publishes expert folders (docs/expert-format.md), many in one generation of the catalogue. They take "
      "effect without a restart; what is already live stays as it is. One that is refused is named and stops "
      "none of the others.");
  client::PublishOptions options;
  flags.Positionals("FOLDER...", 1, 10'000);
  flags.String("name", &name, "NAME",
               "refuse the folder unless its card has this name; empty: the card's name, whatever it is");
  // Not from 0: a share of nothing would make it live.
  flags.Double("canary", &canary_share, 1e-6, 1, "SHARE",
               "publish beside the live version and give it this share of its requests, until `promote` or "
               "`rollback`; without this it becomes the live version");
  flags.Bool("restore-catalogue", &options.restore_catalogue,
             "where the store's catalogue is damaged or missing: write anew what is served, then publish");
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (!name.empty() && flags.positionals().size() > 1) {
    std::fprintf(stderr, "error: --name goes with one folder, got %d\n",
                 static_cast<int>(flags.positionals().size()));
    return kUsage;
  }
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  if (canary_share > 0) options.canary_share = canary_share;
  std::vector<client::ExpertFolder> experts;
  for (const std::string& folder : flags.positionals()) {
    experts.push_back({name, folder});
  }
  const auto results = PublishFolders(&client, experts, options);
  if (!results.ok()) return Fail(results.status(), connection.json);
  Outcome outcome(connection.json);
  for (size_t i = 0; i < results->size(); ++i) {
    const StatusOr<v1::PublishExpertResponse>& result = (*results)[i];
    const std::string folder = experts[i].folder.string();
    if (!result.ok()) {
      const bool named = absl::StrContains(result.status().message(), folder);
      outcome.Failed(named ? result.status()
                           : Annotate(result.status(), absl::StrCat("cannot publish ", folder)));
      continue;
    }
    PrintPublished(*result, connection.json);
    // A folder that was copied to begin another expert, and whose card was not changed, replaces the first.
    if (!connection.json && name.empty() && PathName(folder) != result->expert().name()) {
      std::fprintf(stderr, "note: the card in %s names the expert %s\n", Printable(folder).c_str(),
                   result->expert().name().c_str());
    }
    std::fflush(stdout);
  }
  return outcome.exit_code();
}

int RunRemove(std::span<const std::string> args) {
  Connection connection;
  FlagSet flags("coterie experts remove",
                "Withdraws experts with all their versions. Answers that have begun end as they began.");
  flags.Positionals("NAME...", 1, 10'000);
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  client::Client client(connection.options);
  Outcome outcome(connection.json);
  for (const std::string& name : flags.positionals()) {
    const StatusOr<v1::RemoveExpertResponse> response = client.RemoveExpert(name);
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
    if (connection.json) {
      nlohmann::json json = InfoToJson(response->expert());
      json["message"] = response->message();
      json["catalogue_generation"] = response->catalogue_generation();
      std::printf("%s\n", Dump(json).c_str());
    } else {
      std::printf("%s\n", Printable(response->message()).c_str());
    }
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

constexpr Command kCommands[] = {
    {"list", "list the experts that are live", RunList},
    {"show", "show one expert and its card", RunShow},
    {"publish", "publish expert folders, or a canary of one", RunPublish},
    {"promote", "make canaries live", RunPromote},
    {"rollback", "withdraw canaries, or go back to the versions before", RunRollBack},
    {"remove", "withdraw experts", RunRemove},
};

}  // namespace

int RunExperts(std::span<const std::string> args) {
  const bool help = !args.empty() && (args[0] == "--help" || args[0] == "-h" || args[0] == "help");
  for (const Command& command : kCommands) {
    if (!args.empty() && command.name == args[0]) return command.run(args.subspan(1));
  }
  std::FILE* stream = help ? stdout : stderr;
  if (!help) {
    std::fprintf(stream, "error: %s\n\n",
                 args.empty()
                     ? "which of its commands?"
                     : absl::StrCat("unknown command ", Quoted(absl::StrCat("experts ", args[0]))).c_str());
  }
  std::fputs("Usage: coterie experts COMMAND [FLAGS...]\n\nCommands:\n", stream);
  for (const Command& command : kCommands) {
    std::fprintf(stream, "  %-8s %s\n", std::string(command.name).c_str(),
                 std::string(command.summary).c_str());
  }
  std::fputs("\n`coterie experts COMMAND --help` lists a command's flags.\n", stream);
  return help ? kDone : kUsage;
}

}  // namespace coterie::command
