#include "gateway/gateway_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>

#include <random>
#include <utility>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/shared_secret.h"
#include "common/version.h"
#include "gateway/answer/fallback_log.h"
#include "gateway/answer/request_log.h"
#include "gateway/grpc/cluster_service.h"
#include "gateway/grpc/expert_service.h"
#include "gateway/grpc/generation_service.h"
#include "gateway/http/http_front.h"
#include "gateway/publish/lora_adapters.h"
#include "gateway/routing/catalogue_watch.h"
#include "gateway/text/embedding_cache.h"
#include "gateway/upstream/worker_directory.h"
#include "gateway/watch/live_metrics.h"
#include "net/grpc_listener.h"
#include "net/metrics_server.h"
#include "net/standard_services.h"
#include "net/tls_credentials.h"
#include "spdlog/spdlog.h"

namespace coterie::gateway {
namespace {

// Calls open at once on one connection; a client of gRPC keeps more waiting by itself. Less than what may run
// and wait in all, so that one connection does not fill the gateway.
constexpr int kMaxStreams = 1024;
// Taken from a socket in one go. gRPC's own limit, 4 MiB, is 20,000 calls that are opened and broken off, all
// of which would be made before any other connection is looked at.
constexpr int kReadBytes = 64 << 10;
// Of a listener's calls that hold one while they run: lists, states, publications.
constexpr int kMaxThreads = 64;
constexpr int kAdminMessageBytes = 2 << 20;  // a chunk of 1 MiB and what is around it

std::string DrawGatewayId() {
  std::random_device device;
  return absl::StrCat("gw-", absl::Hex(device(), absl::kZeroPad8), absl::Hex(device(), absl::kZeroPad8));
}

// Publishers and operators, out of the descriptors that connections of clients never get.
net::AcceptorOptions AdminConnections() {
  net::AcceptorOptions connections;
  connections.listener = "admin";
  connections.max_connections = 64;
  connections.max_per_client = 32;
  return connections;
}

StatusOr<std::unique_ptr<net::GrpcListener>> Listen(const std::string& address,
                                                    net::AcceptorOptions connections, int max_message_bytes,
                                                    MetricsRegistry* registry,
                                                    const std::vector<grpc::Service*>& services,
                                                    net::StandardServices* standard,
                                                    std::shared_ptr<net::TlsIdentity> tls) {
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreams);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadBytes);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.SetMaxReceiveMessageSize(max_message_bytes);
  builder.SetResourceQuota(grpc::ResourceQuota().SetMaxThreads(kMaxThreads));
  for (grpc::Service* service : services) builder.RegisterService(service);
  standard->Register(&builder);
  net::GrpcListenerOptions listener{address, std::move(connections), nullptr, {}};
  if (tls != nullptr) listener.credentials = net::TlsServerCredentials(std::move(tls));
  return net::GrpcListener::Start(&builder, std::move(listener), registry);
}

class GatewayServerImpl final : public GatewayServer {
 public:
  GatewayServerImpl(GatewayOptions options, GatewayParts parts)
      : options_(std::move(options)),
        parts_(std::move(parts)),
        metrics_(&registry_),
        drift_(options_.drift),
        admission_(options_.admission, &timers_),
        compute_("compute", options_.compute_threads, options_.max_compute_jobs),
        generation_service_(&core_, &registry_),
        cluster_service_(&core_, &registry_, /*asks_for_key=*/true),
        admin_cluster_service_(&core_, &registry_, /*asks_for_key=*/false) {}

  ~GatewayServerImpl() override {
    metrics_server_.reset();
    http_.reset();  // cancels what it still answers
    admin_http_.reset();
    lora_.reset();  // ends what it waits for
    for (const auto* listener : {&front_, &admin_}) {
      if (*listener != nullptr) (*listener)->Shutdown(absl::ZeroDuration());
    }
    front_.reset();  // waits for every call's end
    admin_.reset();
    if (shadow_ != nullptr) shadow_->Stop();
    if (workers_ != nullptr) workers_->Stop();
    // Its callbacks go on in the pool, which is still there.
    if (parts_.embedder != nullptr) parts_.embedder->Stop();
  }

  Status Start() {
    if (parts_.text == nullptr) return absl::InvalidArgumentError("the gateway needs a model");
    RETURN_IF_ERROR(Admission::Validate(options_.admission));
    RETURN_IF_ERROR(ShadowTraffic::Validate(options_.shadow));
    RETURN_IF_ERROR(DriftWatch::Validate(options_.drift));
    RETURN_IF_ERROR(MakeRouters());
    if (!options_.keys.file.empty()) {
      ASSIGN_OR_RETURN(keys_, Keys::Start(options_.keys, &registry_));
    }
    ASSIGN_OR_RETURN(WorkerDirectory directory, WorkerDirectory::Parse(options_.workers));
    FillCore();
    RETURN_IF_ERROR(StartTracing());
    RETURN_IF_ERROR(ReadIdentities());
    WorkerPool::Options pool{options_.link, options_.placement, options_.resolve_interval,
                             options_.gang_top_tokens};
    pool.link.gateway_id = core_.gateway_id;
    pool.link.stream_key = SharedSecret::DrawNonce();
    pool.link.tls = worker_tls_;
    pool.link.secret = secret_;
    pool.link.base = parts_.text->base();
    pool.link.tokenizer = parts_.text->tokenizer();
    ASSIGN_OR_RETURN(workers_, WorkerPool::Start(std::move(pool), std::move(directory), &timers_));
    core_.workers = workers_.get();
    admission_.SetCapacity(workers_->CapacityReader());
    if (options_.shadow.share > 0) {
      shadow_ = std::make_unique<ShadowTraffic>(&core_, options_.shadow);
      core_.shadow = shadow_.get();
    }
    const int front_bytes = static_cast<int>(2 * options_.limits.max_input_bytes) + (1 << 20);
    const int n_listeners = options_.http.listen.empty() ? 1 : 2;
    ASSIGN_OR_RETURN(net::AcceptorOptions connections, options_.connections.Resolve("front", n_listeners));
    ASSIGN_OR_RETURN(front_, Listen(options_.listen, std::move(connections), front_bytes, &registry_,
                                    {&generation_service_, &cluster_service_}, &front_standard_, front_tls_));
    if (!options_.admin_listen.empty()) {
      std::vector<grpc::Service*> services = {&admin_cluster_service_};
      std::vector<std::string> names = {v1::ClusterService::service_full_name()};
      if (parts_.store != nullptr) {
        names.push_back(v1::ExpertService::service_full_name());
        expert_service_ =
            std::make_unique<ExpertServiceImpl>(parts_.store.get(), watch_.get(), &core_, &registry_);
        services.push_back(expert_service_.get());
      }
      admin_standard_ = std::make_unique<net::StandardServices>(std::move(names), &registry_);
      ASSIGN_OR_RETURN(admin_, Listen(options_.admin_listen, AdminConnections(), kAdminMessageBytes,
                                      &registry_, services, admin_standard_.get(), operators_tls_));
    }
    if (!options_.metrics_listen.empty()) {
      ASSIGN_OR_RETURN(metrics_server_,
                       net::MetricsServer::Start(&registry_, options_.metrics_listen,
                                                 std::make_shared<LiveMetrics>(&core_), operators_tls_));
    }
    if (!options_.http.listen.empty()) {
      ASSIGN_OR_RETURN(net::AcceptorOptions http_connections,
                       options_.connections.Resolve("http", n_listeners));
      http_connections.every_second = nullptr;  // the front's watches the clock
      http_connections.silent_timeout = options_.http.head_timeout;
      http::HttpServerOptions http = options_.http;
      http.stall_timeout = options_.client_stall_timeout;
      ASSIGN_OR_RETURN(http_, http::HttpFront::Start(&core_, std::move(http), options_.console,
                                                     std::move(http_connections), &registry_,
                                                     std::make_shared<LiveMetrics>(&core_), front_tls_));
    }
    RETURN_IF_ERROR(StartAdminHttp());
    SetServing(true);
    return absl::OkStatus();
  }

  int port() const override { return front_->port(); }
  int admin_port() const override { return admin_ == nullptr ? 0 : admin_->port(); }
  int metrics_port() const override { return metrics_server_ == nullptr ? 0 : metrics_server_->port(); }
  int http_port() const override { return http_ == nullptr ? 0 : http_->port(); }
  int admin_http_port() const override { return admin_http_ == nullptr ? 0 : admin_http_->port(); }
  const GatewayCore& core() const override { return core_; }

  bool Drain(absl::Duration timeout) override {
    SetServing(false);
    for (const auto* http : {&http_, &admin_http_}) {
      if (*http != nullptr) (*http)->BeginDrain();
    }
    if (shadow_ != nullptr) shadow_->Stop();
    admission_.Drain();
    const MonotonicTime until = MonotonicNow() + timeout;
    while (!admission_.idle() && MonotonicNow() < until) absl::SleepFor(absl::Milliseconds(20));
    const bool clean = admission_.idle();
    spdlog::info(clean ? "drained" : "not everything ended in time; cutting off the rest");
    // What was just finished is still on its way to the client.
    if (http_ != nullptr) http_->Drain(absl::Seconds(1));
    front_->Shutdown(absl::Seconds(1));
    return clean;
  }

 private:
  Status StartAdminHttp() {
    if (options_.admin_http_listen.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(LoraFolders folders, LoraFolders::Of(options_.lora_folders));
    lora_ = std::make_unique<LoraAdapters>(&core_, parts_.store.get(), watch_.get(),
                                           parts_.base ? &*parts_.base : nullptr, std::move(folders));
    http::HttpServerOptions http = options_.http;
    http.listen = options_.admin_http_listen;
    http.threads = 1;
    net::AcceptorOptions connections = AdminConnections();
    connections.listener = "admin-http";
    connections.silent_timeout = http.head_timeout;
    ASSIGN_OR_RETURN(admin_http_, http::HttpFront::Start(&core_, std::move(http), /*has_console=*/false,
                                                         std::move(connections), &registry_, nullptr,
                                                         operators_tls_, lora_.get()));
    return absl::OkStatus();
  }

  Status ReadIdentities() {
    const auto read = [this](const char* name, net::TlsOptions files,
                             std::shared_ptr<net::TlsIdentity>* identity) -> Status {
      if (!files.any()) return absl::OkStatus();
      if (files.cert.empty() && identity != &worker_tls_) {
        return absl::InvalidArgumentError(absl::StrCat("TLS of ", name, " has no certificate of ours"));
      }
      files.name = name;
      ASSIGN_OR_RETURN(*identity, net::TlsIdentity::Start(std::move(files), &registry_));
      return absl::OkStatus();
    };
    RETURN_IF_ERROR(read("clients", options_.tls, &front_tls_));
    net::TlsOptions operators = options_.tls;
    if (!options_.operators_ca.empty()) operators.peer_ca = options_.operators_ca;
    RETURN_IF_ERROR(read("operators", std::move(operators), &operators_tls_));
    RETURN_IF_ERROR(read("workers", options_.worker_tls, &worker_tls_));
    if (options_.worker_secret.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(secret_, SharedSecret::Open(options_.worker_secret));
    return absl::OkStatus();
  }

  Status StartTracing() {
    if (options_.traces.endpoint.empty()) return absl::OkStatus();
    net::SpanExporterOptions traces = options_.traces;
    traces.service = {"coterie-gateway", core_.gateway_id, kVersion};
    ASSIGN_OR_RETURN(exporter_, net::SpanExporter::Start(std::move(traces), &registry_));
    core_.tracer = Tracer(exporter_.get(), options_.trace_sample);
    return absl::OkStatus();
  }

  Status MakeRouters() {
    RouterState::Options options{options_.routing, parts_.embedder == nullptr ? 0 : parts_.embedder->dim(),
                                 options_.max_candidates};
    RoutingFiles files(options_.rules_file, options_.classifier_file, options.dim);
    if (parts_.store != nullptr) {
      const Digest embedder = parts_.embedder == nullptr ? Digest() : parts_.embedder->digest();
      ASSIGN_OR_RETURN(watch_, CatalogueWatch::Start(parts_.store.get(), std::move(options), embedder,
                                                     std::move(files), options_.catalogue_poll));
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(files.Refresh(&options.routing).status());  // there is nothing to route to, but say so
    ASSIGN_OR_RETURN(auto state, RouterState::Create(options, Catalogue(), {}));
    no_experts_ = std::make_unique<RouterStates>(std::move(state));
    return absl::OkStatus();
  }

  void FillCore() {
    core_.gateway_id = DrawGatewayId();
    core_.router_policy = options_.router_policy;
    core_.text = parts_.text.get();
    core_.embedder = parts_.embedder.get();
    core_.phrases = parts_.phrases.get();
    core_.conversation.min_score = options_.routing.min_score;
    core_.embeddings = &embeddings_;
    core_.routers = watch_ != nullptr ? watch_->routers() : no_experts_.get();
    core_.store = parts_.store.get();
    core_.keys = keys_.get();
    core_.admission = &admission_;
    core_.compute = &compute_;
    core_.timers = &timers_;
    core_.metrics = &metrics_;
    core_.fallback_log = &fallback_log_;
    core_.request_log = &request_log_;
    core_.drift = &drift_;
    core_.limits = options_.limits;
    core_.session = options_.session;
    core_.embed_max_bytes = options_.embed_max_bytes;
    core_.client_stall_timeout = options_.client_stall_timeout;
    core_.upload_idle_timeout = options_.upload_idle_timeout;
  }

  void SetServing(bool serving) {
    for (const auto* listener : {&front_, &admin_}) {
      if (*listener == nullptr) continue;
      grpc::HealthCheckServiceInterface* health = (*listener)->server()->GetHealthCheckService();
      health->SetServingStatus(serving);
      for (const char* name :
           {"coterie.v1.GenerationService", "coterie.v1.ClusterService", "coterie.v1.ExpertService"}) {
        health->SetServingStatus(name, serving);
      }
    }
  }

  // Destroyed from the bottom: what uses others stands below them. Timers may still hold tickets of the
  // admission.
  const GatewayOptions options_;
  GatewayParts parts_;
  MetricsRegistry registry_;
  std::unique_ptr<net::SpanExporter> exporter_;  // where there is an endpoint
  GatewayMetrics metrics_;
  DriftWatch drift_;
  EmbeddingCache embeddings_;
  FallbackLog fallback_log_;
  RequestLog request_log_;
  GatewayCore core_;
  std::unique_ptr<Keys> keys_;                                                // where there is a file of them
  std::shared_ptr<net::TlsIdentity> front_tls_, operators_tls_, worker_tls_;  // null: no TLS there
  std::shared_ptr<SharedSecret> secret_;
  Admission admission_;
  TimerQueue timers_;
  std::unique_ptr<RouterStates> no_experts_;  // without a store
  std::unique_ptr<CatalogueWatch> watch_;     // with one
  std::unique_ptr<WorkerPool> workers_;
  std::unique_ptr<ShadowTraffic> shadow_;  // where a share is
  WorkPool compute_;
  GenerationServiceImpl generation_service_;
  ClusterServiceImpl cluster_service_;
  ClusterServiceImpl admin_cluster_service_;
  std::unique_ptr<ExpertServiceImpl> expert_service_;  // with a store
  net::StandardServices front_standard_{
      {v1::GenerationService::service_full_name(), v1::ClusterService::service_full_name()}, &registry_};
  std::unique_ptr<net::StandardServices> admin_standard_;
  std::unique_ptr<net::GrpcListener> front_;
  std::unique_ptr<net::GrpcListener> admin_;
  std::unique_ptr<net::MetricsServer> metrics_server_;
  std::unique_ptr<http::HttpFront> http_;
  std::unique_ptr<LoraAdapters> lora_;
  std::unique_ptr<http::HttpFront> admin_http_;
};

}  // namespace

StatusOr<std::unique_ptr<GatewayServer>> GatewayServer::Start(GatewayOptions options, GatewayParts parts) {
  auto server = std::make_unique<GatewayServerImpl>(std::move(options), std::move(parts));
  RETURN_IF_ERROR(server->Start());
  return std::unique_ptr<GatewayServer>(std::move(server));
}

}  // namespace coterie::gateway
