#ifndef COTERIE_NET_TRACE_TRACE_FLAGS_H_
#define COTERIE_NET_TRACE_TRACE_FLAGS_H_

#include "common/flags.h"
#include "common/status.h"
#include "net/trace/span_exporter.h"

namespace coterie::net {

// --otlp-endpoint, --otlp-ca and --otlp-headers, the same in every process.
void DeclareTraceFlags(SpanExporterOptions* options, FlagSet* flags);
// InvalidArgument naming the flag.
Status CheckTraceFlags(const SpanExporterOptions& options);

}  // namespace coterie::net

#endif  // COTERIE_NET_TRACE_TRACE_FLAGS_H_
