#ifndef COTERIE_NET_TRACE_SPAN_EXPORTER_H_
#define COTERIE_NET_TRACE_SPAN_EXPORTER_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "common/metrics.h"
#include "common/status.h"
#include "common/trace/trace.h"
#include "net/trace/otlp_message.h"

namespace coterie::net {

struct SpanExporterOptions {
  std::string endpoint;  // see OtlpEndpoint; empty: there is no exporter
  std::string ca_file;   // see HttpPoster, likewise the next
  std::string headers_file;
  TracedService service;
  size_t max_spans = 8192;                              // that wait; more are dropped
  size_t max_batch_spans = 512;                         // of one POST, and those of one request go together
  absl::Duration batch_delay = absl::Seconds(1);        // that the first of a POST waits for others
  absl::Duration post_timeout = absl::Seconds(5);       // of one POST
  int max_tries = 5;                                    // of a POST whose failure may pass
  absl::Duration first_retry = absl::Seconds(1);        // doubled with every try
  absl::Duration last_post_timeout = absl::Seconds(1);  // what the end waits for what is left
};

// Sends spans to an OTLP/HTTP receiver from a thread of its own, in batches. Whoever has spans leaves them
// under a lock that nobody holds while something is waited for; a receiver that is slow, silent or away costs
// them nothing, and what finds no room is dropped and counted. Thread-safe.
class SpanExporter final : public SpanSink {
 public:
  // InvalidArgument naming the endpoint or the file that is wrong. The receiver need not be there.
  static StatusOr<std::unique_ptr<SpanExporter>> Start(SpanExporterOptions options,
                                                       MetricsRegistry* registry);
  // Sends what is left, for as long as last_post_timeout; what is not gone by then is given up.
  ~SpanExporter() override;

  void Take(std::vector<Span> spans) override;

 private:
  class Loop;
  explicit SpanExporter(std::shared_ptr<Loop> loop);

  const std::shared_ptr<Loop> loop_;
  std::thread thread_;
};

}  // namespace coterie::net

#endif  // COTERIE_NET_TRACE_SPAN_EXPORTER_H_
