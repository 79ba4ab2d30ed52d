// coterie-worker: one process, one base model, one device.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/log/log.h"
#include "common/log/named.h"
#include "common/metrics.h"
#include "common/shared_secret.h"
#include "common/shutdown_signal.h"
#include "common/status.h"
#include "common/utf8.h"
#include "common/version.h"
#include "model/store/expert_store.h"
#include "net/descriptors.h"
#include "net/metrics_server.h"
#include "net/tls_identity.h"
#include "net/trace/span_exporter.h"
#include "spdlog/spdlog.h"
#include "worker/cores.h"
#include "worker/device/device_loss.h"
#include "worker/device/device_watch.h"
#include "worker/device/use_device.h"
#include "worker/engine/engine.h"
#include "worker/engine/peer_traffic.h"
#include "worker/gang/gangs.h"
#include "worker/gang/gloo_meeting.h"
#include "worker/load_model.h"
#include "worker/options.h"
#include "worker/rendezvous/rendezvous_service.h"
#include "worker/service/worker_metrics.h"
#include "worker/service/worker_service.h"
#include "worker/worker_server.h"

namespace coterie::worker {
namespace {

StatusOr<AdapterStore::Resolver> MakeResolver(const std::string& root) {
  if (root.empty()) {
    return AdapterStore::Resolver([](const Digest& digest) -> StatusOr<std::filesystem::path> {
      return absl::NotFoundError("this worker was started without --store");
    });
  }
  ASSIGN_OR_RETURN(std::unique_ptr<ExpertStore> opened, ExpertStore::Open(root, {}));
  std::shared_ptr<ExpertStore> store = std::move(opened);
  return AdapterStore::Resolver([store](const Digest& digest) { return store->ObjectPath(digest); });
}

EngineOptions MakeEngineOptions(const WorkerOptions& options) {
  EngineOptions engine;
  engine.max_batch_tokens = options.max_batch_tokens;
  engine.max_seqs = options.max_seqs;
  engine.max_waiting = options.max_waiting;
  engine.max_logit_rows = options.max_logit_rows;
  engine.adapters.n_slots = options.adapter_slots;
  engine.adapters.max_bytes = options.adapter_bytes;
  engine.adapters.n_loader_threads = options.adapter_loaders;
  return engine;
}

// Host and port; where the port is yet to be picked, host and process.
std::string DefaultId(const std::string& listen) {
  char host[256] = "worker";
  gethostname(host, sizeof(host) - 1);
  const std::string port = listen.substr(listen.rfind(':') + 1);
  return port == "0" ? absl::StrCat(host, "/", getpid()) : absl::StrCat(host, ":", port);
}

Status Run(const WorkerOptions& asked, ShutdownSignals* signals) {
  if (!asked.cores.empty()) {
    ASSIGN_OR_RETURN(const std::vector<int> cores, ParseCores(asked.cores));
    RETURN_IF_ERROR(PinToCores(cores));
  }
  const devices::InventoryOptions inventory_options = devices::InventoryOptions::FromEnvironment();
  ASSIGN_OR_RETURN(const devices::ChosenDevice device, UseDevice(asked, inventory_options));
  const WorkerOptions options = WithDefaultsFor(device, asked);
  ASSIGN_OR_RETURN(AdapterStore::Resolver resolver, MakeResolver(options.store));
  spdlog::info("{}", net::RaiseDescriptorLimit().ToString());
  spdlog::info("loading {}", Named("model", options.model.empty() ? "the fake model" : options.model));
  const MonotonicTime begin = MonotonicNow();
  ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(options, device));
  const LanguageModelInfo& info = loaded.model->info();
  spdlog::info("{} (base {}, {}) is ready after {}: {} MB of weights, {} MB of KV for {} tokens",
               Named("model", loaded.name), Named("base", info.base_digest.Short()),
               Named("numerics_class", info.numerics_class),
               Named("after", absl::FormatDuration(MonotonicNow() - begin)),
               Named("weights_mb", info.weight_bytes >> 20), Named("kv_mb", info.kv_bytes >> 20),
               Named("kv_tokens", info.n_kv_blocks * kKvBlockTokens));
  if (!info.batch_invariant) {
    spdlog::info(
        "an answer's text may depend on what is computed beside it, and may change when it is resumed "
        "elsewhere "
        "(batch_invariant is false)");
  }
  for (const std::string& warning : loaded.warnings) spdlog::warn("{}", warning);
  const std::string worker_id = options.id.empty() ? DefaultId(options.listen) : options.id;
  MetricsRegistry registry;
  // Before the engine, whose sequences hold their traces to the end.
  std::unique_ptr<net::SpanExporter> exporter;
  if (!options.traces.endpoint.empty()) {
    net::SpanExporterOptions traces = options.traces;
    traces.service = {"coterie-worker", worker_id, kVersion};
    ASSIGN_OR_RETURN(exporter, net::SpanExporter::Start(std::move(traces), &registry));
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                   Engine::Create(MakeEngineOptions(options), loaded.model.get(), std::move(resolver),
                                  loaded.matchers.get()));

  PeerTraffic traffic;
  WorkerMetrics metrics(&registry, engine.get(), &traffic);
  metrics.ShowConstraints(loaded.matchers ? &loaded.matchers->stats() : nullptr);
  std::shared_ptr<net::TlsIdentity> tls;
  if (options.tls.any()) {
    net::TlsOptions files = options.tls;
    files.name = "worker";
    ASSIGN_OR_RETURN(tls, net::TlsIdentity::Start(std::move(files), &registry));
  }
  std::unique_ptr<SharedSecret> secret;
  if (!options.gateway_secret.empty()) {
    ASSIGN_OR_RETURN(secret, SharedSecret::Open(options.gateway_secret));
  }
  std::unique_ptr<net::MetricsServer> metrics_server;
  if (options.metrics_port >= 0) {
    const std::string host = options.listen.substr(0, options.listen.rfind(':'));
    ASSIGN_OR_RETURN(
        metrics_server,
        net::MetricsServer::Start(&registry, absl::StrCat(host, ":", options.metrics_port), nullptr, tls));
  }
  WorkerServiceOptions service_options;
  service_options.worker_id = worker_id;
  service_options.tracer = Tracer(exporter.get(), /*ratio=*/0);
  service_options.tokenizer_digest = loaded.tokenizer_digest;
  service_options.device = device.device;
  service_options.serves = options.serves;
  service_options.reattach_grace = options.reattach_grace;
  service_options.secret = secret.get();
  DeviceLoss loss(signals);
  service_options.on_device_lost = [&loss](const Status& why) { loss.Tell(why); };
  const DeviceWatch watch(options, device, inventory_options, engine.get(), &metrics, &loss);
  RendezvousServiceImpl rendezvous({}, &registry);
  GlooMeeting meeting(&rendezvous);
  std::unique_ptr<Gangs> gangs;
  // What the workers of a gang say to each other is not encrypted.
  if (options.max_gangs > 0 && tls == nullptr) {
    gangs = std::make_unique<Gangs>(GangOptions{.max_gangs = options.max_gangs}, engine.get(), &meeting,
                                    &traffic);
  }
  WorkerServiceImpl service(service_options, engine.get(), &traffic, &metrics, gangs.get());
  signals->BeginServing();
  ASSIGN_OR_RETURN(std::unique_ptr<WorkerServer> server,
                   WorkerServer::Start(options.listen, &service, engine->max_sequence_tokens(),
                                       {options.max_connections, options.max_connections_per_address},
                                       &registry, tls, gangs == nullptr ? nullptr : &rendezvous));

  std::printf("listening %s:%d\n", options.listen.substr(0, options.listen.rfind(':')).c_str(),
              server->port());
  if (metrics_server != nullptr) std::printf("metrics %d\n", metrics_server->port());
  std::fflush(stdout);
  spdlog::info("worker {} listens on port {}", Named("worker", service_options.worker_id),
               Named("port", server->port()));

  const int signal = signals->WaitForFirst();
  if (!loss.why().ok()) LeaveWithoutDevice(device.device, loss.why(), std::move(server));
  spdlog::info("{}: draining for at most {}; a second signal ends at once",
               Named("signal", ShutdownSignalName(signal)),
               Named("drain_timeout", absl::FormatDuration(options.drain_timeout)));
  const int handed_over = server->Drain(options.drain_timeout);
  spdlog::info("drained; {} sequences handed over", Named("sequences", handed_over));
  // The word may still be on its way from the engine to `loss`.
  const Status lost = loss.why().ok() ? engine->device_status() : loss.why();
  if (!lost.ok()) LeaveWithoutDevice(device.device, lost, std::move(server));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  // CUDA would bring a kernel to the device when it is first launched, which may be within a capture, or find
  // no memory there any more. Before the driver is asked for anything.
  setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
  WorkerOptions options;
  FlagSet flags = options.Flags();
  Status status = flags.Parse(argc, argv);
  if (flags.help_requested()) {
    std::fputs(flags.Help().c_str(), stdout);
    return EXIT_SUCCESS;
  }
  if (status.ok()) status = options.Check();
  if (status.ok() && options.list_devices) {
    std::fputs(ListDevices(options, devices::InventoryOptions::FromEnvironment()).c_str(), stdout);
    std::fflush(stdout);
    _exit(EXIT_SUCCESS);  // a driver that hangs may hold the usual end
  }
  if (!status.ok()) {
    std::fprintf(stderr, "coterie-worker: %s\n", Printable(ToStd(status.message())).c_str());
    return 2;
  }
  StartLog("worker", LogFormatOf(options.log_format));
  status = Run(options, ShutdownSignals::Watch());
  if (!status.ok()) {
    LogFatal(status);
    // A driver that does not answer may hold a lock that the usual end waits for.
    if (absl::IsDeadlineExceeded(status)) _exit(EXIT_FAILURE);
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}

}  // namespace
}  // namespace coterie::worker

int main(int argc, char** argv) { return coterie::worker::Main(argc, argv); }
