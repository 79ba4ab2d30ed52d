#include "gateway/options.h"

#include <utility>

#include "absl/strings/str_split.h"
#include "common/worker_protocol.h"
#include "net/listen_policy.h"
#include "net/trace/trace_flags.h"
#include "router/routing_limits.h"

namespace coterie::gateway {

void CommandLine::Declare(FlagSet* flags) {
  flags->Section("What it serves");
  flags->String("model", &model, "PATH",
                "base model (tokenizer, chat template): a .gguf file or Hugging Face folder");
  flags->String(
      "embedder", &embedder, "PATH",
      "folder of the sentence encoder that routes; without one only experts by name and the base answer");
  flags->String("store", &store, "DIR", "expert store; without one only the base answers");
  flags->String("workers", &gateway.workers, "LIST",
                "host:port,host:port,… or dns:///name:port, resolved again and again");

  flags->Required("model");
  flags->Required("workers");

  flags->Section("Where it listens");
  flags->String("listen", &gateway.listen, "HOST:PORT",
                "questions; port 0 picks a free one, printed on standard output");
  flags->String("http-listen", &gateway.http.listen, "HOST:PORT",
                "the same over HTTP, as OpenAI's API has it; empty: none");
  flags->String("admin-listen", &gateway.admin_listen, "HOST:PORT", "publishing experts; empty: none");
  flags->String("admin-http-listen", &gateway.admin_http_listen, "HOST:PORT",
                "loading and unloading adapters over HTTP, as vLLM has it (docs/http.md); empty: none");
  flags->Strings("lora-folders", &gateway.lora_folders, "DIR,...",
                 "folders of this machine below which --admin-http-listen may load adapters; none: it loads "
                 "none");
  flags->Int("metrics-port", &metrics_port, -1, 65535, "PORT",
             "/metrics on 127.0.0.1 (see --metrics-host); -1: none");
  flags->String("metrics-host", &metrics_host, "HOST", "where /metrics listens");

  flags->Section("Who may ask");
  flags->String("keys", &gateway.keys.file, "FILE",
                "API keys (`coterie keys`): every question shows one of them, and its tenant, experts and "
                "quotas are the key's; read again when it changes. Without a file nobody is asked");

  flags->String("tls-cert", &gateway.tls.cert, "FILE",
                "certificate, and those that vouch for it, in PEM: everything that listens speaks TLS; read "
                "again when it changes, as all of these files are");
  flags->String("tls-key", &gateway.tls.key, "FILE", "its private key, in PEM, without a password");
  flags->String("tls-client-ca", &gateway.tls.peer_ca, "FILE",
                "certificates in PEM: clients must show one that these vouch for, over gRPC and HTTP");
  flags->String("tls-operator-ca", &gateway.operators_ca, "FILE",
                "the same for the admin and metrics listeners; empty: those of --tls-client-ca");
  flags->Bool("insecure-listen", &insecure_listen,
              "listen where others than this machine come, and ask none of them who they are");

  flags->Section("Routing");
  flags->String("policy", &gateway.router_policy, "NAME",
                "nearest, top_k, mixture, adaptive_k or classifier");
  flags->String(
      "rules", &gateway.rules_file, "FILE",
      "YAML: which expert answers a declared domain, tried before anything else; read again when it "
      "changes");
  flags->String("classifier", &gateway.classifier_file, "FILE",
                "safetensors: a logistic regression on the embedding, for the policy classifier; read again "
                "when it changes");
  flags->Double("min-score", &min_score, -1, 1, "S", "below this cosine the base answers");
  flags->Double("min-margin", &min_margin, 0, 2, "M", "closer to the next expert than this the base answers");
  flags->Int("top-k", &top_k, 1, static_cast<int>(kMaxTopK), "K",
             "experts of top_k and mixture, and at most of adaptive_k");
  flags->Double("route-temperature", &temperature, kMinRouteTemperature, 100, "T",
                "of the weights of several experts (c-BTM)");
  flags->Double("confident-margin", &confident_margin, 0, 2, "M",
                "adaptive_k: one expert from this margin on");
  flags->Double("adaptive-mass", &adaptive_mass, kMinAdaptiveMass, 1, "P",
                "adaptive_k: otherwise the smallest set of this mass");
  flags->Bytes("embed-bytes", &embed_bytes, 16, 1 << 20, "of a question, read for routing");
  flags->Int("embed-tokens", &embed_tokens, 2, 1 << 16, "N",
             "of a long question, read for routing: half its first, half its last");
  flags->Choice("embedder-mode", &embedder_mode, {"fast", "exact"},
                "fast: weights and products in 8 bits; exact: float32");
  flags->Int("embedder-threads", &embedder_threads, 1, 64, "N",
             "cores that embed questions, and questions (or batches) at once");
  flags->Duration("catalogue-poll", &gateway.catalogue_poll, absl::Milliseconds(10), absl::Hours(1),
                  "how often the store is looked at");

  flags->Section("Watching the router");
  flags->Double("shadow-share", &gateway.shadow.share, 0, 1, "SHARE",
                "of routed requests, whose prompts are scored under the chosen expert, the runner-up and the "
                "base while the workers are idle; 0: none");
  flags->Int("shadow-tokens", &shadow_tokens, 2, 1 << 16, "N",
             "of such a prompt, its first ones; a question beyond them is not scored");

  flags->Double("drift-margin", &gateway.drift.margin, 0, 2, "M",
                "questions have left an expert's field when their mean score is so much, and three standard "
                "errors, below what its card says");

  flags->Section("Logs and traces");
  flags->Choice("log-format", &log_format, {"text", "json"},
                "of the lines on standard error: for people, or a JSON object each");
  net::DeclareTraceFlags(&gateway.traces, flags);
  flags->Double(
      "trace-sample", &gateway.trace_sample, 0, 1, "RATIO",
      "of requests whose callers trace nothing; of the others those are traced that their callers trace");

  flags->Section("Limits");
  flags->Int("max-connections", &max_connections, 0, 1 << 20, "N",
             "open connections, of gRPC and of HTTP each; the next one takes an idle one's place or is "
             "refused. 0: as "
             "many as the descriptors allow (ulimit -Hn), at most 8192");
  flags->Int("max-connections-per-address", &max_connections_per_address, 0, 1 << 20, "N",
             "of them from one address (IPv6: one /64); 0: half. Behind a proxy all come from one address");
  flags->Int("max-running", &max_running, 1, 1 << 20, "N", "answers (Generate, Score) under way");
  flags->Int(
      "max-waiting", &max_waiting, 0, 1 << 20, "N",
      "answers waiting; more get RESOURCE_EXHAUSTED, and of a full queue the tenant that waits for most");
  flags->Double(
      "tenant-share", &gateway.admission.tenant_share, 0, 1, "SHARE",
      "of all places, within which a tenant's requests come before those of tenants that have more, "
      "whatever their priorities; places that nobody else wants are lent");
  flags->Int("max-running-per-tenant", &max_running_per_tenant, 0, 1 << 20, "N",
             "answers of one tenant under way, however much is free; 0: no such limit");
  flags->Int("max-waiting-per-tenant", &max_waiting_per_tenant, 0, 1 << 20, "N",
             "answers of one tenant waiting; 0: no such limit");
  flags->Int(
      "max-unstarted", &max_unstarted, 1, 1 << 20, "N",
      "answers that workers were given and have not begun, or as many as have begun; what waits behind "
      "them waits here, in the order of shares, priorities and deadlines");
  flags->Int("max-paused", &max_paused, 1, 1 << 20, "N",
             "answers whose clients do not read, beside those under way; half of them of one tenant or "
             "connection");
  flags->Duration("client-stall-timeout", &gateway.client_stall_timeout, absl::Seconds(1), absl::Hours(24),
                  "a client that reads nothing for so long is cut off");
  flags->Duration("upload-idle-timeout", &gateway.upload_idle_timeout, absl::Seconds(1), absl::Hours(24),
                  "a publication whose client sends nothing for so long is cancelled");
  flags->Int("max-routing", &max_routing, 1, 1 << 20, "N", "Route requests under way");
  flags->Int("max-routing-waiting", &max_routing_waiting, 0, 1 << 20, "N", "Route requests waiting");
  flags->Int("max-embedding", &max_embedding, 1, 1 << 20, "N", "texts of Embed requests under way");
  flags->Int("max-embedding-waiting", &max_embedding_waiting, 0, 1 << 20, "N",
             "texts of Embed requests waiting");
  flags->Int("max-answer-tokens", &max_answer_tokens, 0, 1 << 20, "N",
             "longest answer; 0: the model's context");
  flags->Duration("max-time", &gateway.limits.max_time, absl::Milliseconds(1), absl::Hours(24),
                  "longest request");
  flags->Duration("drain-timeout", &drain_timeout, absl::ZeroDuration(), absl::Hours(1),
                  "how long SIGTERM waits for answers to end");

  flags->Section("HTTP");
  flags->Bool("console", &gateway.console, "the page at / that asks questions and shows where they go");
  flags->String(
      "http-hosts", &http_hosts, "NAME,NAME,…",
      "names with a dot that a Host header may hold where HTTP listens on loopback, such as a proxy's "
      "in front; *: any");
  flags->Int("http-threads", &gateway.http.threads, 1, 64, "N",
             "threads that read and write HTTP connections");
  flags->Bytes("http-max-body", &http_max_body, 1 << 10, 1 << 28, "of a request's body");
  flags->Bytes("http-max-bodies", &http_max_bodies, 1 << 20, uint64_t{1} << 40,
               "of all bodies that are held at once; the next request gets 503");
  flags->Duration("http-head-timeout", &gateway.http.head_timeout, absl::Milliseconds(50), absl::Minutes(10),
                  "from a request's first byte to the end of its headers");
  flags->Duration("http-body-timeout", &gateway.http.body_timeout, absl::Milliseconds(50), absl::Hours(1),
                  "from there to the end of its body");
  flags->Duration("http-idle-timeout", &gateway.http.idle_timeout, absl::Milliseconds(50), absl::Hours(24),
                  "of a connection between two requests; longer than that of a proxy in front");
  flags->Duration("http-comments", &gateway.http.comment_interval, absl::Milliseconds(50), absl::Hours(1),
                  "of silence in a stream, after which a comment keeps proxies from closing it");

  flags->Section("Workers");
  flags->String(
      "worker-ca", &gateway.worker_tls.peer_ca, "FILE",
      "certificates in PEM: workers are spoken to over TLS, and must show one that these vouch for; "
      "read again when it changes, as the next three are");
  flags->String("worker-cert", &gateway.worker_tls.cert, "FILE",
                "certificate in PEM that is shown to workers (their --tls-client-ca)");
  flags->String("worker-key", &gateway.worker_tls.key, "FILE", "its private key");
  flags->String("worker-secret", &gateway.worker_secret, "FILE",
                "the line that workers and gateways both know (their --gateway-secret); it never travels");
  flags->String(
      "worker-name", &gateway.link.tls_name, "HOST",
      "that workers' certificates are for; empty: each one's host in --workers, of dns:///name:port "
      "the name");
  flags->Duration("silence-timeout", &gateway.link.silence_timeout, absl::Milliseconds(50),
                  kMaxSilenceTimeout, "a worker that says nothing for so long is lost");
  flags->Duration("heartbeat", &gateway.link.heartbeat_interval, kMinHeartbeatInterval, kMaxHeartbeatInterval,
                  "how often both sides say that they are there");
  flags->Duration("reattach-grace", &gateway.link.reattach_grace, absl::Milliseconds(10), kMaxReattachGrace,
                  "how long a lost connection may take to come back before its answers move");
  flags->Bool(
      "strict-serves", &gateway.placement.strict_serves,
      "a worker whose --serves lacks the expert never gets its requests; without this it does when no "
      "other can");
  flags->Int(
      "gang-top-tokens", &gang_top_tokens, 0, 1 << 20, "N",
      "of a mixture over several workers, how many of its largest logits each member tells the worker that "
      "draws the token, which is then one of them; 0: all, 4 bytes each, and the text of one worker with all "
      "members");
  flags->Duration(
      "member-wait", &gateway.session.member_wait, absl::ZeroDuration(), absl::Minutes(10),
      "how long such an answer that lost a worker waits for another with its members, before it goes on "
      "without them");
  flags->Duration("worker-wait", &gateway.session.worker_wait, absl::Milliseconds(1), absl::Minutes(10),
                  "how long an answer waits for any worker");
  flags->Int("max-moves", &max_moves, 0, 1 << 20, "N",
             "times an answer may lose its worker without getting on; 4 new tokens, or any within 5 seconds, "
             "earn one "
             "back, and hand-overs of a draining worker do not count");
  flags->Duration(
      "eject", &gateway.link.outliers.first, absl::ZeroDuration(), absl::Hours(1),
      "how long a worker that failed twice within a minute gets answers only where no other can take "
      "them; doubles each time, up to 5 minutes; 0: never");
}

Status CommandLine::Finish() {
  if (model.empty()) {
    return absl::InvalidArgumentError("--model is missing: name a .gguf file or a Hugging Face folder");
  }
  if (gateway.workers.empty()) {
    return absl::InvalidArgumentError("--workers is missing: name host:port,host:port,… or dns:///name:port");
  }
  const WorkerLinkOptions& link = gateway.link;
  if (link.silence_timeout < kMinSilentHeartbeats * link.heartbeat_interval) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--silence-timeout=", absl::FormatDuration(link.silence_timeout), ": must be at least ",
        kMinSilentHeartbeats, " times --heartbeat, which is ", absl::FormatDuration(link.heartbeat_interval),
        ", or every worker would be lost again and again"));
  }
  ASSIGN_OR_RETURN(gateway.routing.selection, ParseSelection(gateway.router_policy));
  if (gateway.routing.selection == coterie::RoutingOptions::Selection::kClassifier &&
      gateway.classifier_file.empty()) {
    return absl::InvalidArgumentError("--policy classifier needs --classifier FILE");
  }
  gateway.routing.min_score = static_cast<float>(min_score);
  gateway.routing.min_margin = static_cast<float>(min_margin);
  gateway.routing.top_k = static_cast<size_t>(top_k);
  gateway.routing.temperature = static_cast<float>(temperature);
  gateway.routing.confident_margin = static_cast<float>(confident_margin);
  gateway.routing.adaptive_mass = static_cast<float>(adaptive_mass);
  gateway.embed_max_bytes = embed_bytes;
  gateway.admission.max_running = static_cast<uint32_t>(max_running);
  gateway.admission.max_waiting = static_cast<uint32_t>(max_waiting);
  gateway.admission.max_running_per_tenant = static_cast<uint32_t>(max_running_per_tenant);
  gateway.admission.max_waiting_per_tenant = static_cast<uint32_t>(max_waiting_per_tenant);
  gateway.admission.max_unstarted = static_cast<uint32_t>(max_unstarted);
  gateway.admission.max_paused = static_cast<uint32_t>(max_paused);
  gateway.admission.max_routing = static_cast<uint32_t>(max_routing);
  gateway.admission.max_routing_waiting = static_cast<uint32_t>(max_routing_waiting);
  gateway.admission.max_embedding = static_cast<uint32_t>(max_embedding);
  gateway.admission.max_embedding_waiting = static_cast<uint32_t>(max_embedding_waiting);
  gateway.session.max_moves = static_cast<uint32_t>(max_moves);
  gateway.gang_top_tokens = static_cast<uint32_t>(gang_top_tokens);
  gateway.http.allowed_hosts = absl::StrSplit(http_hosts, ',', absl::SkipWhitespace());
  gateway.http.parser.max_body_bytes = http_max_body;
  gateway.http.max_bodies_bytes = static_cast<int64_t>(http_max_bodies);
  gateway.connections = {max_connections, max_connections_per_address};
  gateway.shadow.max_tokens = static_cast<uint32_t>(shadow_tokens);
  gateway.limits.max_answer_tokens = static_cast<uint32_t>(max_answer_tokens);
  gateway.metrics_listen = metrics_port < 0 ? "" : absl::StrCat(metrics_host, ":", metrics_port);
  RETURN_IF_ERROR(net::CheckTraceFlags(gateway.traces));
  return CheckAccess();
}

Status CommandLine::CheckAccess() {
  if (!gateway.lora_folders.empty() && gateway.admin_http_listen.empty()) {
    return absl::InvalidArgumentError("--lora-folders wants --admin-http-listen: adapters are loaded there");
  }
  net::TlsOptions& to_workers = gateway.worker_tls;
  if (!to_workers.cert.empty() && to_workers.peer_ca.empty()) {
    return absl::InvalidArgumentError(
        "--worker-cert wants --worker-ca: whoever answers would else be taken for a worker");
  }
  if (gateway.tls.cert.empty() && !(gateway.tls.peer_ca.empty() && gateway.operators_ca.empty())) {
    return absl::InvalidArgumentError(
        "--tls-client-ca and --tls-operator-ca want --tls-cert and --tls-key: TLS begins with ours");
  }
  constexpr std::string_view kDns = "dns:///";
  if (gateway.link.tls_name.empty() && gateway.workers.substr(0, kDns.size()) == kDns) {
    gateway.link.tls_name = gateway.workers.substr(kDns.size(), gateway.workers.rfind(':') - kDns.size());
  }
  const bool clients = !gateway.keys.file.empty() || !gateway.tls.cert.empty();
  const bool operators = !gateway.operators_ca.empty() || !gateway.tls.peer_ca.empty();
  const char* const for_clients = "--keys, or --tls-cert";
  return net::CheckListeners(
      {{"--listen", gateway.listen, clients, for_clients},
       {"--http-listen", gateway.http.listen, clients, for_clients},
       {"--admin-listen", gateway.admin_listen, operators,
        "--tls-operator-ca, or --tls-client-ca (API keys publish nothing)"},
       {"--admin-http-listen", gateway.admin_http_listen, operators,
        "--tls-operator-ca, or --tls-client-ca (API keys publish nothing)"},
       {"--metrics-host", gateway.metrics_listen, !gateway.tls.cert.empty(), "--tls-cert"}},
      insecure_listen);
}

}  // namespace coterie::gateway
