#ifndef COTERIE_GATEWAY_OPTIONS_H_
#define COTERIE_GATEWAY_OPTIONS_H_

#include <string>

#include "common/flags.h"
#include "gateway/gateway_server.h"

namespace coterie::gateway {

// The command line of coterie-gateway. The plain values are what flags can set; Finish moves them into
// `gateway`.
struct CommandLine {
  std::string model;
  std::string embedder;
  std::string store;
  std::string metrics_host = "127.0.0.1";
  int metrics_port = 9464;
  std::string log_format = "text";
  std::string embedder_mode = "fast";
  int embedder_threads = 2;
  int embed_tokens = 64;
  absl::Duration drain_timeout = absl::Seconds(30);
  GatewayOptions gateway;

  double min_score = 0.2;
  double min_margin = 0.0;
  double temperature = 0.1;
  double confident_margin = 0.15;
  double adaptive_mass = 0.9;
  int top_k = 2;
  uint64_t embed_bytes = 4096;
  std::string http_hosts;
  uint64_t http_max_body = 4 << 20;
  uint64_t http_max_bodies = 256 << 20;
  int max_connections = 0;
  int max_connections_per_address = 0;
  int max_running = 256;
  int max_waiting = 1024;
  int max_running_per_tenant = 0;
  int max_waiting_per_tenant = 0;
  int max_unstarted = 32;
  int max_paused = 1024;
  int max_routing = 4;
  int max_routing_waiting = 1024;
  int max_embedding = 256;
  int max_embedding_waiting = 4096;
  int max_answer_tokens = 0;
  int shadow_tokens = 256;
  int max_moves = 3;
  int gang_top_tokens = 0;
  bool insecure_listen = false;

  void Declare(FlagSet* flags);
  // InvalidArgument naming the flag.
  Status Finish();

 private:
  // Who is asked who they are, and whether that fits where it listens.
  Status CheckAccess();
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_OPTIONS_H_
