#ifndef COTERIE_GATEWAY_GRPC_CALL_METADATA_H_
#define COTERIE_GATEWAY_GRPC_CALL_METADATA_H_

#include <grpcpp/server_context.h>

#include <string_view>

#include "common/trace/trace_context.h"

namespace coterie::gateway {

// What a call's metadata say under `name`; empty without it. Valid as long as the call.
inline std::string_view CallMetadata(const grpc::ServerContextBase& context, const char* name) {
  const auto found = context.client_metadata().find(name);
  if (found == context.client_metadata().end()) return {};
  return {found->second.data(), found->second.size()};
}

// Takes the trace that the call is a part of. Its id is the request's unless the request names one itself.
template <typename Request>
void TakeCallersTrace(const grpc::ServerContextBase& context, bool names_one, Request* request) {
  request->context.caller_trace =
      ReadTraceContext(CallMetadata(context, "traceparent"), CallMetadata(context, "tracestate"));
  if (!request->context.caller_trace || names_one) return;
  request->context.trace_id = request->context.caller_trace.trace.ToHex();
  if constexpr (requires { request->routing; }) {
    // Empty: no canary takes it (a score measures the live version).
    if (!request->routing.canary_key.empty()) request->routing.canary_key = request->context.trace_id;
  }
}

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_CALL_METADATA_H_
