// coterie-gateway: the front door. Stateless; run as many as you like.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "gateway/gateway_server.h"
#include "gateway/options.h"
#include "gateway/text/encoder_embedder.h"
#include "gateway/text/text_model.h"
#include "model/format/model_files.h"
#include "model/store/adapter_check.h"
#include "model/store/expert_store.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

// The store with the check that every published adapter fits this base.
StatusOr<std::unique_ptr<ExpertStore>> OpenStore(const CommandLine& line, const TextModel& text,
                                                 const TextEmbedder* embedder) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(line.model));
  ExpertStoreOptions options;
  options.create = true;
  options.validate_adapter = AdapterFitsBase(files->config(), text.base());
  options.prototype_dim = embedder == nullptr ? 0 : embedder->dim();
  return ExpertStore::Open(line.store, std::move(options));
}

StatusOr<std::unique_ptr<GatewayServer>> StartServer(CommandLine line) {
  GatewayParts parts;
  spdlog::info("loading {}", line.model);
  ASSIGN_OR_RETURN(parts.text, LoadTextModel(line.model));
  if (line.embedder.empty()) {
    spdlog::warn("no --embedder: questions for `auto` cannot be routed; experts by name and the base answer");
  } else {
    spdlog::info("loading {}", line.embedder);
    ASSIGN_OR_RETURN(parts.embedder, LoadEmbedder(line.embedder, line.embedder_threads));
  }
  if (!line.store.empty()) {
    ASSIGN_OR_RETURN(parts.store, OpenStore(line, *parts.text, parts.embedder.get()));
  }
  return GatewayServer::Start(std::move(line.gateway), std::move(parts));
}

int Main(int argc, char** argv) {
  CommandLine line;
  FlagSet flags(
      "coterie-gateway",
      "Answers clients over gRPC: templates, tokenises, embeds and routes each question, and has a worker "
      "generate the answer. SIGTERM lets running answers finish, then ends.");
  line.Declare(&flags);
  Status status = flags.Parse(argc, argv);
  if (flags.help_requested()) {
    std::fputs(flags.Help().c_str(), stdout);
    return 0;
  }
  if (status.ok()) status = line.Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "coterie-gateway: %s\n", std::string(status.message()).c_str());
    return 2;
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("gateway"));

  // Blocked before any other thread starts, so that only this one takes them; one that comes while the models
  // load waits for the drain below.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  const absl::Duration drain_timeout = line.drain_timeout;
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const StatusOr<std::unique_ptr<GatewayServer>> server = StartServer(std::move(line));
  if (!server.ok()) {
    std::fprintf(stderr, "coterie-gateway: %s\n", std::string(server.status().message()).c_str());
    return 1;
  }
  std::printf("listening %d admin %d metrics %d\n", (*server)->port(), (*server)->admin_port(),
              (*server)->metrics_port());
  std::fflush(stdout);

  int signal = 0;
  sigwait(&signals, &signal);
  spdlog::info("{}: draining for at most {}; a second signal ends at once", sigdescr_np(signal),
               absl::FormatDuration(drain_timeout));
  std::thread([signals] {
    int again = 0;
    sigwait(&signals, &again);
    std::_Exit(1);
  }).detach();
  return (*server)->Drain(drain_timeout) ? 0 : 1;
}

}  // namespace
}  // namespace coterie::gateway

int main(int argc, char** argv) { return coterie::gateway::Main(argc, argv); }
