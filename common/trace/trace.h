#ifndef COTERIE_COMMON_TRACE_TRACE_H_
#define COTERIE_COMMON_TRACE_TRACE_H_

#include <initializer_list>
#include <memory>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "common/trace/span.h"
#include "common/trace/trace_context.h"

namespace coterie {

// Takes the spans of requests that are over. Any thread; never waits and never fails: what it has no room for
// is dropped.
class SpanSink {
 public:
  virtual ~SpanSink() = default;
  virtual void Take(std::vector<Span> spans) = 0;
};

// The spans of one request in one process, for as long as anybody holds a copy of this; then the sink gets
// them together. An empty one records nothing, and each call costs a comparison: whoever computes something
// for an attribute asks first (`if (trace)`). Copies are the same trace. Thread-safe.
class Trace {
 public:
  // What one request may record; beyond it spans and events are left out, and the first span says how many.
  static constexpr size_t kMaxSpans = 64;
  static constexpr size_t kMaxEvents = 128;

  Trace() = default;
  // The first span of this process, below the span of `parent`, or of a trace that begins with it. The sink
  // outlives every copy.
  static Trace Begin(SpanSink* sink, const TraceContext& parent, const char* name, SpanKind kind,
                     MonotonicTime begin);

  explicit operator bool() const { return spans_ != nullptr; }
  // Names and keys are literals. A span that was left out has the id "none", which every call here ignores.
  SpanId root() const;
  SpanId Open(SpanId parent, const char* name, SpanKind kind = SpanKind::kInternal,
              MonotonicTime begin = MonotonicNow()) const;
  // One that is over already.
  void Add(SpanId parent, const char* name, MonotonicTime begin, MonotonicTime end,
           std::initializer_list<SpanAttribute> attributes = {}) const;
  void Note(SpanId span, SpanAttribute attribute) const;
  void Event(SpanId span, const char* name, std::initializer_list<SpanAttribute> attributes = {}) const;
  // The first time counts. A span that nobody closes ends with the last copy of this.
  void Close(SpanId span, const Status& status = absl::OkStatus(), MonotonicTime end = MonotonicNow()) const;
  // What the next process is to be told, whose spans are children of `span`; nothing of an empty trace.
  TraceContext ContextOf(SpanId span) const;

 private:
  class Spans;
  std::shared_ptr<Spans> spans_;
};

// Decides which requests of a process are traced, and begins their traces.
class Tracer {
 public:
  // `sink` (borrowed) null: none. `ratio` of those that come without a trace of their caller's; one that has
  // it is traced if the caller's is.
  Tracer(SpanSink* sink, double ratio) : sink_(sink), ratio_(ratio) {}

  // `own`: the trace id to take where the caller has none; may be none, too.
  Trace Begin(const TraceContext& parent, std::optional<TraceId> own, const char* name, SpanKind kind,
              MonotonicTime begin) const;

 private:
  SpanSink* sink_;
  double ratio_;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_TRACE_TRACE_H_
