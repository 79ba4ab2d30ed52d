#ifndef COTERIE_COMMON_TRACE_TRACE_CONTEXT_H_
#define COTERIE_COMMON_TRACE_TRACE_CONTEXT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace coterie {

// Ids of W3C Trace Context. All zeros: none.
struct TraceId {
  static constexpr size_t kBytes = 16;
  std::array<uint8_t, kBytes> bytes{};

  explicit operator bool() const { return bytes != std::array<uint8_t, kBytes>{}; }
  friend bool operator==(const TraceId&, const TraceId&) = default;
  // 32 hexadecimal digits in lower case.
  std::string ToHex() const;
  // Nothing unless `hex` is that, and not all zeros.
  static std::optional<TraceId> FromHex(std::string_view hex);
  static TraceId Draw();
};

struct SpanId {
  static constexpr size_t kBytes = 8;
  std::array<uint8_t, kBytes> bytes{};

  explicit operator bool() const { return bytes != std::array<uint8_t, kBytes>{}; }
  friend bool operator==(const SpanId&, const SpanId&) = default;
  std::string ToHex() const;  // 16 digits
  static std::optional<SpanId> FromHex(std::string_view hex);
  static SpanId Draw();
};

// What one process tells the next of a trace: its spans there are children of `span`.
struct TraceContext {
  TraceId trace;  // none: nothing was told
  SpanId span;
  bool sampled = false;  // whoever began the trace records it
  std::string state;     // `tracestate`: of other systems, handed on as it came

  explicit operator bool() const { return static_cast<bool>(trace); }
  // "00-<trace>-<span>-01"
  std::string ToTraceParent() const;
};

// W3C Trace Context, level 1 (https://www.w3.org/TR/trace-context/). A malformed `traceparent` tells nothing,
// as the specification wants it; a malformed or long `tracestate` beside a good one is left out.
TraceContext ReadTraceContext(std::string_view traceparent, std::string_view tracestate);

}  // namespace coterie

#endif  // COTERIE_COMMON_TRACE_TRACE_CONTEXT_H_
