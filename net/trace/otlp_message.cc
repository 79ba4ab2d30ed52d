#include "net/trace/otlp_message.h"

#include <algorithm>

#include "common/clock.h"
#include "common/unix_time.h"
#include "common/utf8.h"
#include "otlp/trace.pb.h"

namespace coterie::net {
namespace {

constexpr size_t kMaxStatusBytes = 512;
constexpr uint32_t kError = 2;  // Status.code

template <typename Message>
void AddText(std::string_view key, const std::string& value, Message* message) {
  otlp::KeyValue* attribute = message->add_attributes();
  attribute->set_key(std::string(key));
  attribute->mutable_value()->set_string_value(value);
}

struct ValueWriter {
  otlp::AnyValue* value;
  void operator()(bool v) const { value->set_bool_value(v); }
  void operator()(int64_t v) const { value->set_int_value(v); }
  void operator()(double v) const { value->set_double_value(v); }
  void operator()(const std::string& v) const { value->set_string_value(v); }
};

template <typename Message>
void AddAttributes(std::span<const SpanAttribute> attributes, Message* message) {
  for (const SpanAttribute& attribute : attributes) {
    otlp::KeyValue* out = message->add_attributes();
    out->set_key(attribute.key);
    std::visit(ValueWriter{out->mutable_value()}, attribute.value);
  }
}

template <typename Id>
std::string Raw(const Id& id) {
  return id ? std::string(id.bytes.begin(), id.bytes.end()) : std::string();
}

void Fill(const Span& span, int64_t wall_minus_monotonic, otlp::Span* out) {
  const auto nanos = [wall_minus_monotonic](MonotonicTime time) {
    return static_cast<uint64_t>(
        std::max<int64_t>(0, absl::ToInt64Nanoseconds(time.since_epoch()) + wall_minus_monotonic));
  };
  out->set_trace_id(Raw(span.trace));
  out->set_span_id(Raw(span.id));
  out->set_parent_span_id(Raw(span.parent));
  out->set_trace_state(span.state);
  out->set_name(span.name);
  out->set_kind(static_cast<uint32_t>(span.kind));
  out->set_start_time_unix_nano(nanos(span.begin));
  out->set_end_time_unix_nano(nanos(std::max(span.begin, span.end)));
  out->set_flags(1);  // sampled, or we would not be here
  AddAttributes(span.attributes, out);
  for (const SpanEvent& event : span.events) {
    otlp::Span::Event* told = out->add_events();
    told->set_name(event.name);
    told->set_time_unix_nano(nanos(event.at));
    AddAttributes(event.attributes, told);
  }
  if (span.status.ok()) return;
  out->mutable_status()->set_code(kError);
  out->mutable_status()->set_message(Printable(CutUtf8(ToStd(span.status.message()), kMaxStatusBytes)));
}

}  // namespace

std::string OtlpMessage(const TracedService& service, std::span<const Span> spans) {
  otlp::ExportTraceServiceRequest request;
  otlp::ResourceSpans* all = request.add_resource_spans();
  AddText("service.name", service.name, all->mutable_resource());
  AddText("service.instance.id", service.instance, all->mutable_resource());
  AddText("service.version", service.version, all->mutable_resource());
  otlp::ScopeSpans* scope = all->add_scope_spans();
  scope->mutable_scope()->set_name("coterie");
  const int64_t wall_minus_monotonic = UnixNanos() - absl::ToInt64Nanoseconds(MonotonicNow().since_epoch());
  for (const Span& span : spans) Fill(span, wall_minus_monotonic, scope->add_spans());
  return request.SerializeAsString();
}

int64_t RejectedSpans(std::string_view answer) {
  otlp::ExportTraceServiceResponse response;
  if (!response.ParseFromArray(answer.data(), static_cast<int>(answer.size()))) return 0;
  return std::max<int64_t>(0, response.partial_success().rejected_spans());
}

}  // namespace coterie::net
