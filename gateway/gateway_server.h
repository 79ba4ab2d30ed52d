#ifndef COTERIE_GATEWAY_GATEWAY_SERVER_H_
#define COTERIE_GATEWAY_GATEWAY_SERVER_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/core/gateway_core.h"
#include "gateway/http/server/http_server.h"
#include "gateway/routing/drift_watch.h"
#include "gateway/watch/shadow_traffic.h"
#include "model/format/model_config.h"
#include "model/store/expert_store.h"
#include "net/connection_flags.h"
#include "net/tls_identity.h"
#include "net/trace/span_exporter.h"

namespace coterie::gateway {

struct GatewayOptions {
  std::string listen = "127.0.0.1:7070";          // clients; port 0 picks one
  std::string admin_listen = "127.0.0.1:7071";    // publishing; empty: none
  std::string admin_http_listen;                  // the same over HTTP, as vLLM has it; empty: none
  std::vector<std::string> lora_folders;          // whose adapters may be loaded over HTTP; empty: none
  std::string metrics_listen = "127.0.0.1:9464";  // /metrics; empty: none
  std::string workers;                            // see WorkerDirectory
  WorkerLinkOptions link;                         // its ids and digests are filled in
  PlacementOptions placement;
  uint32_t gang_top_tokens = 0;  // see GangPlan
  absl::Duration resolve_interval = absl::Seconds(5);
  Keys::Options keys;          // without a file nobody is asked who they are
  net::TlsOptions tls;         // of clients' listeners, and of all others; without a certificate: none
  std::string operators_ca;    // whose certificates the admin and metrics listeners want; empty: tls.peer_ca
  net::TlsOptions worker_tls;  // towards workers
  std::string worker_secret;   // file; see SharedSecret
  Admission::Options admission;
  RequestLimits limits;
  SessionOptions session;
  coterie::RoutingOptions routing;
  std::string router_policy = "nearest";
  std::string rules_file;       // see RoutingFiles; empty: only what the experts' cards claim
  std::string classifier_file;  // likewise; empty: no policy "classifier"
  size_t max_candidates = 5;
  ShadowOptions shadow;
  DriftOptions drift;
  // Templates, tokenising, searching. One of them may embed a question, so two keep the parts of a request
  // going side by side.
  size_t compute_threads = 2;
  size_t max_compute_jobs = 4096;
  size_t embed_max_bytes = 4096;
  net::SpanExporterOptions traces;  // its service is filled in; without an endpoint: none
  double trace_sample = 0.01;       // see Tracer
  absl::Duration client_stall_timeout = absl::Minutes(2);
  absl::Duration upload_idle_timeout = absl::Minutes(1);
  absl::Duration catalogue_poll = absl::Milliseconds(500);
  net::ConnectionFlags connections;  // of clients, on each of the two listeners for them
  http::HttpServerOptions http;
  bool console = true;  // the page at "/" of HTTP
};

// What the gateway is made from.
struct GatewayParts {
  std::unique_ptr<const TextModel> text;
  std::unique_ptr<TextEmbedder> embedder;              // may be null: only experts by name, and the base
  std::unique_ptr<const ConversationPhrases> phrases;  // may be null (router/conversation.h)
  std::unique_ptr<ExpertStore> store;  // may be null: no experts, and nothing can be published
  std::optional<ModelConfig> base;     // its shape: to read adapters that were converted for it
};

// The front door: everything between its listeners and its workers. Thread-safe.
class GatewayServer {
 public:
  // InvalidArgument naming the option; AlreadyExists naming the address whose port is taken.
  static StatusOr<std::unique_ptr<GatewayServer>> Start(GatewayOptions options, GatewayParts parts);
  virtual ~GatewayServer() = default;  // ends what is left at once

  virtual int port() const = 0;
  virtual int admin_port() const = 0;
  virtual int metrics_port() const = 0;
  virtual int http_port() const = 0;
  virtual int admin_http_port() const = 0;
  virtual const GatewayCore& core() const = 0;

  // Says NOT_SERVING, takes nothing new, and returns when the last answer has ended, or after `timeout`; true
  // if nothing had to be cut off.
  virtual bool Drain(absl::Duration timeout) = 0;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GATEWAY_SERVER_H_
