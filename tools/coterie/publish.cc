// coterie experts publish: expert folders as they are, or a plain PEFT adapter whose card and prototypes are
// made first (model/publishing).
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "common/path_name.h"
#include "model/publishing/check_folder.h"
#include "model/publishing/example_texts.h"
#include "model/publishing/make_expert.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"
#include "tools/coterie/expert_view.h"
#include "tools/coterie/outcome.h"
#include "tools/coterie/publish_folders.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

// What the gateway at the other end knows of routing.
class GatewayRoutingView final : public RoutingView {
 public:
  explicit GatewayRoutingView(client::Client* client) : client_(client) {}

  StatusOr<EmbeddedTexts> Embed(std::span<const std::string> texts) override {
    v1::EmbedRequest request;
    for (const std::string& text : texts) request.add_texts(text);
    ASSIGN_OR_RETURN(const v1::EmbedResponse response, client_->Embed(request));
    EmbeddedTexts embedded;
    ASSIGN_OR_RETURN(embedded.embedder, Digest::FromHex(response.model_digest()));
    if (response.embeddings_size() > 0) {
      embedded.dim = static_cast<size_t>(response.embeddings(0).values_size());
    }
    for (const v1::Embedding& embedding : response.embeddings()) {
      embedded.values.insert(embedded.values.end(), embedding.values().begin(), embedding.values().end());
    }
    return embedded;
  }

  StatusOr<std::optional<Rival>> NearestRival(const std::string& text, std::string_view except) override {
    v1::RouteRequest request;
    request.set_prompt(text);
    request.set_expert("auto");
    request.mutable_routing()->set_policy("nearest");  // cosines, whatever the gateway's own policy compares
    request.mutable_context()->set_no_shadow(true);
    ASSIGN_OR_RETURN(const v1::RouteResponse response, client_->Route(request));
    for (const v1::ExpertScore& candidate : response.decision().candidates()) {
      if (candidate.name() != except) return Rival{candidate.name(), candidate.score()};
    }
    return std::nullopt;
  }

 private:
  client::Client* const client_;
};

struct PublishFlags {
  Connection connection;
  client::PublishOptions options;
  double canary_share = 0;
  CardFields card;
  double min_score = -2;  // below what is accepted: not said
  std::string examples;
  std::string documents;
  std::string base;
  bool dry_run = false;
};

void DeclareFlags(FlagSet* flags, PublishFlags* to) {
  flags->Positionals("FOLDER...", 1, 10'000);
  flags->String(
      "name", &to->card.name, "NAME",
      "refuse the folder unless its card has this name; empty: the card's name, whatever it is. For a "
      "folder without a card: the expert's name; empty: the folder's");
  // Not from 0: a share of nothing would make it live.
  flags->Double("canary", &to->canary_share, 1e-6, 1, "SHARE",
                "publish beside the live version and give it this share of its requests, until `promote` or "
                "`rollback`; without this it becomes the live version");
  flags->Bool("restore-catalogue", &to->options.restore_catalogue,
              "where the store's catalogue is damaged or missing: write anew what is served, then publish");
  flags->Section("One folder without a card or prototypes (those that are there win)");
  flags->String("description", &to->card.description, "TEXT", "one line about what the expert is for");
  flags->String(
      "examples", &to->examples, "FILE",
      "questions of its field, one on a line; a few dozen are good: makes its prototypes and says how "
      "many of them would reach it");
  flags->String("documents", &to->documents, "FOLDER", "the same from text files of its field");
  flags->String("version", &to->card.version, "V", "the card's version; empty: 1");
  flags->Strings("tags", &to->card.tags, "TAG,...",
                 "a request that declares one of them is sent here by rule");
  flags->String("licence", &to->card.licence, "TEXT", "of the data it was made from");
  flags->Double("min-score", &to->min_score, -1, 1, "S",
                "below this cosine the router leaves a question to the base; the gateway's own otherwise");
  flags->String(
      "base", &to->base, "PATH",
      "the base's folder, config.json or GGUF file: to check the adapter against before anything is "
      "sent, and to convert GGUF adapters of the llama architecture");
  flags->Bool("dry-run", &to->dry_run, "make, measure and check everything, publish nothing");
  flags->Section("Gateway");
  AddConnectionFlags(flags, &to->connection);
}

// A flag that goes with one folder alone, or nothing.
std::string FlagForOneFolder(const FlagSet& flags) {
  for (const char* name : {"name", "description", "examples", "documents", "version", "tags", "licence",
                           "min-score", "base", "dry-run"}) {
    if (flags.was_set(name)) return name;
  }
  return "";
}

// The folders as they are.
int PublishAsTheyAre(const std::vector<std::string>& folders, const PublishFlags& flags,
                     client::Client* client) {
  const bool json = flags.connection.json;
  std::vector<client::ExpertFolder> experts;
  for (const std::string& folder : folders) experts.push_back({flags.card.name, folder});
  const auto results = PublishFolders(client, experts, flags.options);
  if (!results.ok()) return Fail(results.status(), json);
  Outcome outcome(json);
  for (size_t i = 0; i < results->size(); ++i) {
    const StatusOr<v1::PublishExpertResponse>& result = (*results)[i];
    const std::string folder = experts[i].folder.string();
    if (!result.ok()) {
      const bool named = absl::StrContains(result.status().message(), folder);
      outcome.Failed(named ? result.status()
                           : Annotate(result.status(), absl::StrCat("cannot publish ", folder)));
      continue;
    }
    PrintPublished(*result, json);
    // A folder that was copied to begin another expert, and whose card was not changed, replaces the first.
    if (!json && flags.card.name.empty() && PathName(folder) != result->expert().name()) {
      std::fprintf(stderr, "note: the card in %s names the expert %s\n", Printable(folder).c_str(),
                   result->expert().name().c_str());
    }
    std::fflush(stdout);
  }
  return outcome.exit_code();
}

void PrintMade(const MadeExpert& made, bool json) {
  if (json) {
    nlohmann::json object = {{"name", made.name}, {"notes", made.notes}};
    if (made.separation.has_value()) {
      const Separation& found = *made.separation;
      object["separation"] = {{"examples", found.n_examples},
                              {"reached", found.n_reached},
                              {"share", found.share()},
                              {"mean_score", found.mean_score}};
      if (found.nearest_rival.has_value()) {
        object["separation"]["nearest_rival"] = {{"name", found.nearest_rival->name},
                                                 {"mean_score", found.nearest_rival->score}};
      }
      object["separation"]["low"] = found.share() < kLowShare;
    }
    std::printf("%s\n", Dump(object).c_str());
    return;
  }
  for (const std::string& note : made.notes) std::fprintf(stderr, "note: %s\n", Printable(note).c_str());
  if (!made.separation.has_value()) return;
  for (const std::string& line : SeparationInWords(*made.separation, made.name)) {
    const bool aside = absl::StartsWith(line, "warning: ") || absl::StartsWith(line, "note: ");
    std::fprintf(aside ? stderr : stdout, "%s\n", Printable(line).c_str());
  }
  std::fflush(stdout);
}

// The base that an adapter says it was trained on and the one that is served may be written differently, so
// this is a note: what does not fit is refused by its shapes.
void NoteAnotherBase(const MadeExpert& made, client::Client* client) {
  const auto status = client->ClusterStatus();
  const auto config = nlohmann::json::parse(made.files.front().content, nullptr, false);
  if (!status.ok() || !config.is_object()) return;
  const auto said = config.find("base_model_name_or_path");
  if (said == config.end() || !said->is_string()) return;
  const std::string trained = said->get<std::string>();
  const std::string trained_name = absl::AsciiStrToLower(PathName(trained));
  const std::string served = absl::AsciiStrToLower(status->base_model());
  if (trained_name.empty() || absl::StrContains(served, trained_name) ||
      absl::StrContains(trained_name, served)) {
    return;
  }
  std::fprintf(stderr, "note: the adapter says that it was trained on %s, the gateway serves %s\n",
               Printable(trained).c_str(), Printable(status->base_model()).c_str());
}

StatusOr<std::vector<std::string>> ReadTexts(const PublishFlags& flags, std::vector<std::string>* notes) {
  if (flags.examples.empty() && flags.documents.empty()) return std::vector<std::string>();
  StatusOr<ExampleTexts> read =
      flags.examples.empty() ? ReadDocuments(flags.documents) : ReadExamples(flags.examples);
  RETURN_IF_ERROR(read.status());
  *notes = std::move(read->notes);
  return std::move(read->texts);
}

StatusOr<MadeExpert> MakeOne(const std::string& path, const PublishFlags& flags, client::Client* client) {
  std::optional<ModelConfig> base;
  if (!flags.base.empty()) {
    ASSIGN_OR_RETURN(base, ReadBaseShape(flags.base));
  }
  std::vector<Status> problems;
  const FolderContent content = ReadFolder(path, base ? &*base : nullptr, &problems);
  if (!problems.empty()) return problems.front();
  std::vector<std::string> notes;
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, ReadTexts(flags, &notes));
  GatewayRoutingView view(client);
  ASSIGN_OR_RETURN(MadeExpert made, MakeExpert(content, flags.card, texts, &view));
  made.notes.insert(made.notes.end(), notes.begin(), notes.end());
  if (base.has_value()) RETURN_IF_ERROR(CheckAgainstBase(content, path, *base));
  return made;
}

int PublishMade(const std::string& folder, const PublishFlags& flags, client::Client* client) {
  const bool json = flags.connection.json;
  const auto failed = [&](const Status& status) {
    const bool named = absl::StrContains(status.message(), folder);
    return Fail(named ? status : Annotate(status, absl::StrCat("cannot publish ", folder)), json);
  };
  const StatusOr<MadeExpert> made = MakeOne(folder, flags, client);
  if (!made.ok()) return failed(made.status());
  PrintMade(*made, json);
  if (!json) NoteAnotherBase(*made, client);
  std::vector<client::ExpertFile> files;
  for (const MadeExpert::File& file : made->files) files.push_back({file.name, file.content});
  if (flags.dry_run) {
    const Status checked = client->CheckFiles(made->name, files, flags.options);
    if (absl::IsUnimplemented(checked)) {
      std::fprintf(stderr,
                   "note: this gateway is older and does not say whether the adapter fits its base\n");
    } else if (!checked.ok()) {
      return failed(checked);
    }
    if (!json) std::printf("%s would be published; this was a dry run\n", made->name.c_str());
    return kDone;
  }
  const auto published = client->PublishFiles(made->name, files, flags.options);
  if (!published.ok()) return failed(published.status());
  PrintPublished(*published, json);
  return kDone;
}

int UsageError(const std::string& what) {
  std::fprintf(stderr, "error: %s\n", what.c_str());
  return kUsage;
}

}  // namespace

int RunPublishExperts(std::span<const std::string> args) {
  PublishFlags publish;
  FlagSet flags(
      "coterie experts publish",
      "Publishes expert folders (docs/expert-format.md), many in one generation of the catalogue. They "
      "take effect without a restart; what is already live stays as it is. One that is refused is "
      "named and stops none of the others. A plain PEFT adapter (also in shards, in a Hugging Face "
      "cache, or a GGUF LoRA file) becomes an expert by --description and --examples.");
  DeclareFlags(&flags, &publish);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  const std::vector<std::string>& folders = flags.positionals();
  const std::string one_folder_flag = FlagForOneFolder(flags);
  if (folders.size() > 1 && !one_folder_flag.empty()) {
    return UsageError(absl::StrCat("--", one_folder_flag, " goes with one folder, got ", folders.size()));
  }
  if (!publish.examples.empty() && !publish.documents.empty()) {
    return UsageError("--examples and --documents were both given; prototypes are made of one of them");
  }
  publish.connection.options.cancellation = InterruptCancellation();
  client::Client client(publish.connection.options);
  if (publish.canary_share > 0) publish.options.canary_share = publish.canary_share;
  if (flags.was_set("min-score")) publish.card.min_score = publish.min_score;
  // --name alone has a meaning of its own for a folder with a card.
  if (one_folder_flag.empty() ||
      (one_folder_flag == "name" && !flags.was_set("description") && !flags.was_set("examples") &&
       !flags.was_set("documents") && !flags.was_set("base") && !publish.dry_run)) {
    return PublishAsTheyAre(folders, publish, &client);
  }
  return PublishMade(folders.front(), publish, &client);
}

}  // namespace coterie::command
