#ifndef COTERIE_WORKER_OPTIONS_H_
#define COTERIE_WORKER_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/flags.h"
#include "common/status.h"
#include "net/tls_identity.h"
#include "net/trace/span_exporter.h"

namespace coterie::worker {

// The command line of coterie-worker; the flags' help says what each means.
struct WorkerOptions {
  std::string model;
  std::string store;
  std::string listen = "127.0.0.1:7601";
  std::string device = "cpu";
  absl::Duration device_timeout = absl::Minutes(2);
  bool list_devices = false;
  std::string mode = "fast";
  std::string weights = "auto";
  std::string gpu_prefill = "invariant";
  std::string isa = "auto";
  std::string id;
  std::vector<std::string> serves;
  int threads = 0;
  std::string cores;

  int kv_tokens = 0;
  uint64_t kv_bytes = 0;
  int max_context = 0;
  int max_batch_tokens = 0;
  int max_seqs = 16;
  int max_waiting = 256;
  int max_logit_rows = 64;
  int adapter_slots = 16;
  uint64_t adapter_bytes = 0;
  int adapter_loaders = 1;
  int max_gangs = 32;
  bool arrow_gates = false;
  uint64_t packed_bytes = uint64_t{4} << 30;

  absl::Duration reattach_grace = absl::Seconds(10);
  absl::Duration drain_timeout = absl::Seconds(30);
  int metrics_port = -1;
  net::TlsOptions tls;
  std::string gateway_secret;
  std::string log_format = "text";
  net::SpanExporterOptions traces;
  bool insecure_listen = false;
  int max_connections = 0;
  int max_connections_per_address = 0;

  bool fake = false;
  int fake_vocab = 1000;
  absl::Duration fake_step_time;
  absl::Duration fake_token_time;
  absl::Duration fake_load_time;
  int fake_lose_device_at = 0;
  int fake_hang_device_at = 0;

  FlagSet Flags();
  // What single flags cannot see. InvalidArgument or Unimplemented naming the flag.
  Status Check() const;
};

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_OPTIONS_H_
