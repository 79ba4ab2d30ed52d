// coterie-gateway: the front door. Stateless; run as many as you like.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "common/allocator.h"
#include "common/log/log.h"
#include "common/log/named.h"
#include "common/shutdown_signal.h"
#include "common/utf8.h"
#include "gateway/gateway_server.h"
#include "gateway/options.h"
#include "gateway/text/encoder_embedder.h"
#include "gateway/text/load_phrases.h"
#include "gateway/text/text_model.h"
#include "model/format/model_files.h"
#include "model/store/adapter_check.h"
#include "model/store/expert_store.h"
#include "net/descriptors.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

// The store with the check that every published adapter fits this base.
StatusOr<std::unique_ptr<ExpertStore>> OpenStore(const CommandLine& line, const ModelConfig& config,
                                                 const TextModel& text, const TextEmbedder* embedder) {
  ExpertStoreOptions options;
  options.create = true;
  options.validate_adapter = AdapterFitsBase(config, text.base());
  options.base = text.base();
  if (embedder != nullptr) {
    options.prototype_dim = embedder->dim();
    options.embedder = embedder->digest();
  }
  return ExpertStore::Open(line.store, std::move(options));
}

StatusOr<std::unique_ptr<GatewayServer>> StartServer(CommandLine line, ShutdownSignals* signals) {
  GatewayParts parts;
  spdlog::info("{}", net::RaiseDescriptorLimit().ToString());
  spdlog::info("loading {}", Named("model", line.model));
  // Closed on return: what is served afterwards needs no weights.
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(line.model));
  ASSIGN_OR_RETURN(parts.text, LoadTextModel(*files));
  for (const std::string& warning : parts.text->warnings()) spdlog::warn("{}", warning);
  if (line.embedder.empty()) {
    spdlog::warn("no --embedder: questions for `auto` cannot be routed; experts by name and the base answer");
  } else {
    spdlog::info("loading {}", Named("model", line.embedder));
    EmbedderOptions options;
    options.mode = line.embedder_mode == "exact" ? NumericsMode::kExact : NumericsMode::kFast;
    options.n_threads = line.embedder_threads;
    options.max_question_tokens = line.embed_tokens;
    ASSIGN_OR_RETURN(parts.embedder, LoadEmbedder(line.embedder, options));
    ASSIGN_OR_RETURN(parts.phrases, LoadPhrases(parts.embedder.get()));
  }
  if (!line.store.empty()) {
    parts.base = files->config();
    ASSIGN_OR_RETURN(parts.store, OpenStore(line, files->config(), *parts.text, parts.embedder.get()));
  }
  signals->BeginServing();
  return GatewayServer::Start(std::move(line.gateway), std::move(parts));
}

int Main(int argc, char** argv) {
  BoundAllocator();
  CommandLine line;
  FlagSet flags("coterie-gateway",
                "Answers clients over gRPC and HTTP: templates, tokenises, embeds and routes each question, "
                "and has a worker "
                "generate the answer. SIGTERM lets running answers finish, then ends.");
  line.Declare(&flags);
  Status status = flags.Parse(argc, argv);
  if (flags.help_requested()) {
    std::fputs(flags.Help().c_str(), stdout);
    return 0;
  }
  if (status.ok()) status = line.Finish();
  if (!status.ok()) {
    std::fprintf(stderr, "coterie-gateway: %s\n", Printable(ToStd(status.message())).c_str());
    return 2;
  }
  StartLog("gateway", LogFormatOf(line.log_format));

  ShutdownSignals* signals = ShutdownSignals::Watch();
  const absl::Duration drain_timeout = line.drain_timeout;
  const StatusOr<std::unique_ptr<GatewayServer>> server = StartServer(std::move(line), signals);
  if (!server.ok()) {
    LogFatal(server.status());
    return 1;
  }
  std::printf("listening %d admin %d metrics %d http %d admin-http %d\n", (*server)->port(),
              (*server)->admin_port(), (*server)->metrics_port(), (*server)->http_port(),
              (*server)->admin_http_port());
  std::fflush(stdout);

  const int signal = signals->WaitForFirst();
  spdlog::info("{}: draining for at most {}; a second signal ends at once",
               Named("signal", ShutdownSignalName(signal)),
               Named("drain_timeout", absl::FormatDuration(drain_timeout)));
  return (*server)->Drain(drain_timeout) ? 0 : 1;
}

}  // namespace
}  // namespace coterie::gateway

int main(int argc, char** argv) { return coterie::gateway::Main(argc, argv); }
