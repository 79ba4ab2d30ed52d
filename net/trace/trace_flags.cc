#include "net/trace/trace_flags.h"

#include "net/trace/otlp_endpoint.h"

namespace coterie::net {

void DeclareTraceFlags(SpanExporterOptions* options, FlagSet* flags) {
  flags->String(
      "otlp-endpoint", &options->endpoint, "URL",
      "http://HOST:PORT or https://HOST:PORT of an OTLP receiver, such as http://collector:4318, that gets "
      "the traces; empty: nothing is traced");
  flags->String("otlp-ca", &options->ca_file, "FILE",
                "certificates in PEM that vouch for an https:// receiver; empty: the system's");
  flags->String(
      "otlp-headers", &options->headers_file, "FILE",
      "lines \"name: value\" that the receiver knows this process by, read again for every request to it");
}

Status CheckTraceFlags(const SpanExporterOptions& options) {
  if (options.endpoint.empty()) {
    if (options.ca_file.empty() && options.headers_file.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        "--otlp-ca and --otlp-headers want --otlp-endpoint: nothing is traced without it");
  }
  const StatusOr<OtlpEndpoint> endpoint = OtlpEndpoint::Parse(options.endpoint);
  if (!endpoint.ok()) return Annotate(endpoint.status(), "--otlp-endpoint");
  if (!options.ca_file.empty() && !endpoint->tls) {
    return absl::InvalidArgumentError("--otlp-ca wants an https:// receiver in --otlp-endpoint");
  }
  return absl::OkStatus();
}

}  // namespace coterie::net
