#include "worker/options.h"

#include "common/quoted.h"
#include "common/worker_protocol.h"
#include "kernels/decoder_ops.h"
#include "kernels/devices/choose_device.h"
#include "net/listen_policy.h"
#include "net/trace/trace_flags.h"

namespace coterie::worker {
namespace {

constexpr uint64_t kLeastAdapterBytes = 1 << 16;

}  // namespace

FlagSet WorkerOptions::Flags() {
  constexpr absl::Duration kNone = absl::ZeroDuration();
  FlagSet flags(
      "coterie-worker",
      "Runs one base model on one device for any number of gateways. Each sequence may use its own expert "
      "(LoRA adapter), loaded from the store when it is first asked for. SIGTERM lets running answers "
      "finish, then ends.");
  flags.Section("What it runs");
  flags.String("model", &model, "PATH",
               "base model: a .gguf file or a Hugging Face folder; only --fake does without");
  flags.String("store", &store, "DIR", "expert store; without one only the base can be asked");
  flags.Strings(
      "serves", &serves, "PATTERNS",
      "names of the experts this worker is for, as shell patterns ('law-*,code'); none: all of the store");
  flags.String(
      "device", &device, "DEVICE",
      "cpu, cuda:N for a GPU by CUDA's number, or auto: the first GPU that can be used, else the cpu");
  flags.Duration("device-timeout", &device_timeout, kNone, absl::Hours(1),
                 "a GPU whose step takes longer hangs: its answers are handed over and the process ends; 0: "
                 "never");
  flags.Bool("list-devices", &list_devices,
             "print what devices there are and whether they can be used, and end");
  flags.Choice(
      "mode", &mode, {"fast", "exact"},
      "on a CPU: fast: int8 activations over quantised weights; exact: float32, the mode compared with "
      "references");
  flags.Choice(
      "weights", &weights, {"auto", "as-is", "q8_0", "q4_1", "fp8"},
      "how weights that the files have as floats are held: as they are, or rounded when they are loaded, "
      "q4_1 on a CPU alone, fp8 on a GPU alone; auto: q8_0 on a CPU in fast mode, else as-is");
  flags.Choice("gpu-prefill", &gpu_prefill, {"invariant", "fast"},
               "products of many rows on a GPU, such as a prompt's: invariant: an answer's text depends on "
               "nothing but "
               "its own request; fast: by cuBLASLt, which does not promise that");
  flags.Int("threads", &threads, 0, 1024, "N", "compute threads; 0: one for each core it may use");
  flags.String("cores", &cores, "LIST", "run on these cores only, such as 0-3,8; empty: on all it may use");
  flags.Choice("isa", &isa, {"auto", "avx512_bf16", "avx512", "avx2", "neon_dot", "highway", "portable"},
               "the instruction set of the kernels");

  flags.Section("Where it listens");
  flags.String("listen", &listen, "HOST:PORT",
               "gRPC address; port 0 picks a free one, printed on standard output");
  flags.Int("metrics-port", &metrics_port, -1, 65535, "PORT",
            "serve /metrics here, on the same host; 0: a free one, -1: nowhere");
  flags.String("tls-cert", &tls.cert, "FILE",
               "certificate, and those that vouch for it, in PEM: everything that listens speaks TLS; read "
               "again when it changes, as the next two are");
  flags.String("tls-key", &tls.key, "FILE", "its private key, in PEM, without a password");
  flags.String("tls-client-ca", &tls.peer_ca, "FILE",
               "certificates in PEM: who comes must show one that these vouch for");
  flags.String("gateway-secret", &gateway_secret, "FILE",
               "a line that gateways must know, too (their --worker-secret), such as `openssl rand -hex 32` "
               "makes; it never travels");
  flags.Bool("insecure-listen", &insecure_listen,
             "listen where others than this machine come, and ask none of them who they are");
  flags.String("id", &id, "NAME", "its name for people; empty: host name and port");
  flags.Duration("reattach-grace", &reattach_grace, kNone, kMaxReattachGrace,
                 "how long the answers of a gateway whose connection broke are kept");
  flags.Duration("drain-timeout", &drain_timeout, kNone, absl::Hours(1),
                 "how long SIGTERM waits for running answers before handing them to other workers");

  flags.Section("Logs and traces");
  flags.Choice("log-format", &log_format, {"text", "json"},
               "of the lines on standard error: for people, or a JSON object each");
  net::DeclareTraceFlags(&traces, &flags);

  flags.Section("Limits");
  flags.Int("kv-tokens", &kv_tokens, 0, 1 << 30, "N",
            "tokens the KV cache has room for; 0: 16,384 on a CPU, and on a GPU what its memory holds beside "
            "all else");
  flags.Bytes("kv-bytes", &kv_bytes, 0, uint64_t{1} << 42,
              "the same in bytes of memory, in place of --kv-tokens; 0: --kv-tokens counts");
  flags.Int("max-context", &max_context, 0, 1 << 30, "N",
            "most tokens of one sequence; 0: all the model has");
  flags.Int(
      "max-batch-tokens", &max_batch_tokens, 0, 65536, "N",
      "tokens of one step: more fill the device better, fewer delay running answers less; 0: 256 on a CPU, "
      "2048 on a GPU, and twice --max-seqs at least");
  flags.Int("max-seqs", &max_seqs, 1, 4096, "N", "sequences of one step");
  flags.Int(
      "max-connections", &max_connections, 0, 1 << 20, "N",
      "open connections; the next one takes an idle one's place or is refused. 0: as many as the descriptors "
      "allow (ulimit -Hn), at most 8192");
  flags.Int("max-connections-per-address", &max_connections_per_address, 0, 1 << 20, "N",
            "of them from one address (IPv6: one /64); 0: half. Behind a proxy all come from one address");
  flags.Int("max-waiting", &max_waiting, 0, 65536, "N",
            "sequences waiting; more are refused as RESOURCE_EXHAUSTED");
  flags.Int("max-logit-rows", &max_logit_rows, 1, 65536, "N",
            "rows of logits of one step, at least max-seqs; scoring a prompt needs one for each token");
  flags.Int("adapter-slots", &adapter_slots, 1, 4096, "N", "experts one step can choose from");
  flags.Bytes(
      "adapter-bytes", &adapter_bytes, 0, uint64_t{1} << 42,
      "memory for packed experts, slots included, on a GPU as much of it and of pinned host memory; 0: "
      "512 MB, on a GPU a sixteenth of its memory");
  flags.Int("adapter-loaders", &adapter_loaders, 1, 16, "N", "threads that read and pack experts");
  flags.Int(
      "max-gangs", &max_gangs, 0, 1024, "N",
      "mixtures it answers at a time together with other workers, where no worker has all members; what they "
      "say to each other is not encrypted, so with --tls-cert there are none. 0: none");
  flags.Bool("arrow-gates", &arrow_gates,
             "on a CPU: sequences may have arrow gates, for which packing an expert takes longer");
  flags.Bytes(
      "packed-bytes", &packed_bytes, 0, uint64_t{1} << 46,
      "disk in the store for experts as this worker packed them, which makes loading them again a copy; "
      "those not used for longest go first. 0: none are written");

  flags.Section("Without arithmetic, for tests of everything around a model");
  flags.Bool(
      "fake", &fake,
      "answer with a hash of adapters and tokens; of --model, if given, only configuration, tokenizer and "
      "digest are used");
  flags.Int("fake-vocab", &fake_vocab, 2, 1 << 20, "N", "vocabulary without --model");
  flags.Duration("fake-step-time", &fake_step_time, kNone, absl::Minutes(1), "time each step takes");
  flags.Duration("fake-token-time", &fake_token_time, kNone, absl::Minutes(1), "time each token adds");
  flags.Duration("fake-load-time", &fake_load_time, kNone, absl::Minutes(1), "time an adapter takes to load");
  flags.Int("fake-lose-device-at", &fake_lose_device_at, 0, 1 << 30, "N",
            "the device is lost in the Nth step; 0: never");
  flags.Int("fake-hang-device-at", &fake_hang_device_at, 0, 1 << 30, "N",
            "the Nth step never ends; 0: all do");
  return flags;
}

Status WorkerOptions::Check() const {
  if (list_devices) return absl::OkStatus();
  if (model.empty() && !fake) {
    return absl::InvalidArgumentError("--model is missing: name a .gguf file or a Hugging Face folder");
  }
  const Status parsed = devices::DeviceRequest::Parse(device).status();
  if (!parsed.ok()) return Annotate(parsed, absl::StrCat("--device=", Shown(device)));
  if (const Status status = CheckWorkerWord(id); !status.ok()) return Annotate(status, "--id");
  if (const Status status = CheckServes(serves); !status.ok()) return Annotate(status, "--serves");
  if (kv_tokens > 0 && kv_tokens < kKvBlockTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("--kv-tokens=", kv_tokens, ": must be 0 or at least ", kKvBlockTokens));
  }
  if (adapter_bytes > 0 && adapter_bytes < kLeastAdapterBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("--adapter-bytes=", adapter_bytes, ": must be 0 or at least ", kLeastAdapterBytes));
  }
  if (max_batch_tokens > 0 && max_batch_tokens <= max_seqs) {
    return absl::InvalidArgumentError(absl::StrCat("--max-batch-tokens=", max_batch_tokens,
                                                   ": must be above --max-seqs, which is ", max_seqs));
  }
  if (!tls.peer_ca.empty() && tls.cert.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca wants --tls-cert and --tls-key: TLS begins with ours");
  }
  RETURN_IF_ERROR(net::CheckTraceFlags(traces));
  const std::string metrics =
      metrics_port < 0 ? "" : absl::StrCat(listen.substr(0, listen.rfind(':')), ":", metrics_port);
  RETURN_IF_ERROR(net::CheckListeners({{"--listen", listen, !gateway_secret.empty() || !tls.peer_ca.empty(),
                                        "--gateway-secret, or --tls-client-ca"},
                                       {"--metrics-port", metrics, !tls.cert.empty(), "--tls-cert"}},
                                      insecure_listen));
  if (max_logit_rows < max_seqs) {
    return absl::InvalidArgumentError(absl::StrCat("--max-logit-rows=", max_logit_rows,
                                                   ": must be at least --max-seqs, which is ", max_seqs));
  }
  return absl::OkStatus();
}

}  // namespace coterie::worker
