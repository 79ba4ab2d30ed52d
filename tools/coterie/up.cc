#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/file.h"
#include "tools/coterie/cluster.h"
#include "tools/coterie/command.h"
#include "tools/coterie/publish_folders.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

namespace fs = std::filesystem;

// $VARIABLE, or a folder below the home folder.
std::string FolderFrom(const char* variable, const std::string& below_home) {
  // NOLINTBEGIN(concurrency-mt-unsafe): read once, before any other thread runs.
  if (const char* value = std::getenv(variable); value != nullptr && *value != '\0') return value;
  const char* home = std::getenv("HOME");
  // NOLINTEND(concurrency-mt-unsafe)
  return (fs::path(home == nullptr ? "." : home) / below_home).string();
}

struct UpOptions {
  ClusterOptions cluster;
  std::string experts;
};

UpOptions Defaults() {
  UpOptions options;
  const fs::path models = FolderFrom("COTERIE_MODELS", ".cache/coterie/models");
  options.cluster.model = (models / "SmolLM2-135M-Instruct.Q4_1.gguf").string();
  options.cluster.embedder = (models / "all-MiniLM-L6-v2").string();
  const fs::path state = FolderFrom("COTERIE_STATE", ".local/state/coterie");
  options.cluster.store = (state / "store").string();
  options.cluster.run_folder = (state / "log").string();
  return options;
}

void DeclareFlags(FlagSet* flags, UpOptions* options) {
  ClusterOptions& c = options->cluster;
  flags->Section("What runs");
  flags->String("model", &c.model, "PATH", "base model: a .gguf file or a Hugging Face folder");
  flags->String("embedder", &c.embedder, "PATH", "folder of the sentence encoder that routes");
  flags->String("experts", &options->experts, "DIR", "publish every expert folder found here; empty: none");
  flags->String("store", &c.store, "DIR", "expert store; kept between runs");
  flags->Strings(
      "devices", &c.devices, "LIST",
      "all: a worker on each GPU that can be used, or, where there is none, on the CPU; cpu; or GPUs "
      "by name: cuda:0,cuda:1");
  flags->Int("workers", &c.workers, 1, 64, "N",
             "worker processes on the CPU; the cores are divided between them. A GPU has one");
  flags->Choice("mode", &c.mode, {"fast", "exact"}, "numerics of the workers");
  flags->Choice(
      "weights", &c.weights, {"auto", "as-is", "q8_0", "q4_1", "fp8"},
      "how workers hold weights that the files have as floats (coterie-worker --help); auto: rounded "
      "to 8 bits on a CPU in fast mode");
  flags->Int("adapter-slots", &c.adapter_slots, 1, 4096, "N", "experts a worker holds ready");
  flags->Bool("arrow-gates", &c.arrow_gates, "workers on CPUs take arrow gates");
  flags->String("log-dir", &c.run_folder, "DIR", "where the processes write their logs");
  flags->Duration("start-timeout", &c.start_timeout, absl::Seconds(1), absl::Hours(1),
                  "how long starting may take");
  flags->Section("Routing");
  flags->Choice("policy", &c.policy, {"nearest", "top_k", "mixture", "adaptive_k", "classifier"},
                "how the router chooses");
  flags->String("rules", &c.rules, "FILE", "YAML: which expert answers a declared domain");
  flags->String("classifier", &c.classifier, "FILE", "safetensors: weights of the policy classifier");
  flags->Double(
      "shadow-share", &c.shadow_share, 0, 1, "SHARE",
      "of routed requests, whose prompts are scored under other experts while nobody waits; 0: none");
  flags->Section("Where it listens");
  flags->String("listen", &c.listen, "HOST:PORT", "questions");
  flags->String("http-listen", &c.http_listen, "HOST:PORT", "OpenAI's API over HTTP; empty: none");
  flags->String("admin-listen", &c.admin_listen, "HOST:PORT", "publishing experts");
  flags->String("keys", &c.keys, "FILE",
                "API keys that questions must show (`coterie keys`); empty: nobody is asked");
  flags->Bool("insecure-listen", &c.insecure_listen,
              "listen where others than this machine come, and ask none of them who they are");
  flags->Int("worker-port", &c.worker_port, 1, 65000, "PORT", "the first worker's; the others follow");
  flags->Int("metrics-port", &c.metrics_port, -1, 65535, "PORT", "the gateway's /metrics; -1: none");
}

// Publishes every folder that holds an adapter or a card, in order of names. One that is refused is named and
// stops neither the others nor the rest of the start.
Status PublishAll(client::Client* client, const std::string& folder, const Terminal& terminal) {
  std::vector<client::ExpertFolder> experts;
  ASSIGN_OR_RETURN(const std::vector<fs::path> found, ListFolder(folder));
  for (const fs::path& path : found) {
    std::error_code unreadable;
    if (fs::exists(path / "adapter_config.json", unreadable) ||
        fs::exists(path / "expert.yaml", unreadable)) {
      experts.push_back({/*name=*/"", path});
    }
  }
  std::sort(experts.begin(), experts.end(), [](const auto& a, const auto& b) { return a.folder < b.folder; });
  ASSIGN_OR_RETURN(const client::PublishResults results, PublishFolders(client, experts));
  int n_new = 0, n_refused = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) {
      n_new += results[i]->already_published() ? 0 : 1;
      continue;
    }
    ++n_refused;
    std::fprintf(stderr, "%s cannot publish %s: %s\n", terminal.Red("error:").c_str(),
                 Printable(experts[i].folder.filename().string()).c_str(),
                 Printable(std::string(results[i].status().message())).c_str());
  }
  std::fprintf(stderr, "%s %d experts from %s (%d new)%s\n", terminal.Green("published").c_str(),
               static_cast<int>(results.size()) - n_refused, folder.c_str(), n_new,
               n_refused == 0 ? "" : absl::StrCat("; ", n_refused, " refused, named above").c_str());
  return absl::OkStatus();
}

std::string HttpWords(const ClusterOptions& cluster) {
  if (cluster.http_listen.empty()) return "";
  return absl::StrCat("  OpenAI clients: base_url=\"http://", cluster.http_listen,
                      "/v1\", any key, model \"auto\"\n");
}

}  // namespace

int RunUp(std::span<const std::string> args) {
  UpOptions options = Defaults();
  FlagSet flags(
      "coterie up",
      "Starts a gateway and workers on this machine, and runs until it is interrupted. A process that ends "
      "is started again.");
  DeclareFlags(&flags, &options);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  client::Cancellation* cancellation = InterruptCancellation();
  const Terminal terminal(stderr);

  const MonotonicTime started = MonotonicNow();
  StatusOr<std::unique_ptr<Cluster>> cluster = Cluster::Start(options.cluster);
  if (!cluster.ok()) return Fail(cluster.status(), false);
  // An operator's: it has no API key.
  client::Client client({.address = options.cluster.admin_listen,
                         .admin_address = options.cluster.admin_listen,
                         .connect_timeout = absl::Milliseconds(200),
                         .cancellation = cancellation});
  if (!(*cluster)->device_note().empty()) {
    std::fprintf(stderr, "%s\n", Printable((*cluster)->device_note()).c_str());
  }
  std::fprintf(stderr, "starting a gateway and %d workers, logs in %s\n",
               static_cast<int>((*cluster)->n_workers()), options.cluster.run_folder.c_str());
  Status status = (*cluster)->WaitReady(&client, cancellation);
  if (status.ok() && !options.experts.empty()) status = PublishAll(&client, options.experts, terminal);
  if (!status.ok()) return Fail(status, false);
  std::fprintf(
      stderr,
      "%s after %s: questions to %s, experts to %s, metrics on port %d\n"
      "%s"
      "  coterie ask --gateway %s \"How do I list all tables?\"\n"
      "  coterie status --gateway %s\n",
      terminal.Green("ready").c_str(), FormatSeconds(absl::ToDoubleSeconds(MonotonicNow() - started)).c_str(),
      options.cluster.listen.c_str(), options.cluster.admin_listen.c_str(), options.cluster.metrics_port,
      HttpWords(options.cluster).c_str(), options.cluster.listen.c_str(), options.cluster.listen.c_str());

  while (!cancellation->cancelled()) {
    for (const std::string& line : (*cluster)->Revive()) std::fprintf(stderr, "%s\n", line.c_str());
    absl::SleepFor(absl::Milliseconds(50));
  }
  std::fprintf(stderr, "stopping\n");
  return kDone;
}

}  // namespace coterie::command
