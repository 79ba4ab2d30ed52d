#ifndef COTERIE_COMMON_TRACE_SPAN_H_
#define COTERIE_COMMON_TRACE_SPAN_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "common/trace/trace_context.h"

namespace coterie {

// Values of `kind` as OTLP counts them.
enum class SpanKind : uint8_t { kInternal = 1, kServer = 2, kClient = 3 };

struct SpanAttribute {
  using Value = std::variant<bool, int64_t, double, std::string>;
  static constexpr size_t kMaxBytes = 256;  // of a text; longer ones are cut

  SpanAttribute(const char* key, bool value) : key(key), value(value) {}
  SpanAttribute(const char* key, double value) : key(key), value(value) {}
  template <typename Integer>
  requires std::is_integral_v<Integer> SpanAttribute(const char* key, Integer value)
      : key(key), value(static_cast<int64_t>(value)) {}
  SpanAttribute(const char* key, std::string_view text);
  SpanAttribute(const char* key, const std::string& text) : SpanAttribute(key, std::string_view(text)) {}
  SpanAttribute(const char* key, const char* text) : SpanAttribute(key, std::string_view(text)) {}

  const char* key;  // a literal
  Value value;
};

struct SpanEvent {
  const char* name;  // a literal
  MonotonicTime at;
  std::vector<SpanAttribute> attributes;
};

// Something that took time on a request's way.
struct Span {
  TraceId trace;
  SpanId id;
  SpanId parent;      // none: the first of its trace
  std::string state;  // `tracestate`, of the first span in a process
  const char* name = "";
  SpanKind kind = SpanKind::kInternal;
  MonotonicTime begin;
  MonotonicTime end = MonotonicTime::InfiniteFuture();
  std::vector<SpanAttribute> attributes;
  std::vector<SpanEvent> events;
  Status status;

  bool open() const { return end == MonotonicTime::InfiniteFuture(); }
};

}  // namespace coterie

#endif  // COTERIE_COMMON_TRACE_SPAN_H_
