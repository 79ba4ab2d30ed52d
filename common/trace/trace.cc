#include "common/trace/trace.h"

#include <cstring>
#include <utility>

#include "common/mutex.h"
#include "common/random.h"

namespace coterie {

class Trace::Spans {
 public:
  Spans(SpanSink* sink, const TraceContext& parent, const char* name, SpanKind kind, MonotonicTime begin)
      : sink_(sink), trace_(parent.trace), state_(parent.state), id_seed_(DrawSeed()) {
    MutexLock lock(&mutex_);
    root_ = OpenLocked(parent.span, name, kind, begin)->id;
    spans_.front().state = state_;
  }

  ~Spans() {
    const MonotonicTime now = MonotonicNow();
    if (n_left_out_ > 0) spans_.front().attributes.emplace_back("coterie.left_out", n_left_out_);
    for (Span& span : spans_) {
      if (span.open()) span.end = now;
    }
    sink_->Take(std::move(spans_));
  }

  SpanId root() const { return root_; }

  SpanId Open(SpanId parent, const char* name, SpanKind kind, MonotonicTime begin) {
    MutexLock lock(&mutex_);
    const Span* span = OpenLocked(parent, name, kind, begin);
    return span == nullptr ? SpanId() : span->id;
  }

  void Add(SpanId parent, const char* name, MonotonicTime begin, MonotonicTime end,
           std::initializer_list<SpanAttribute> attributes) {
    MutexLock lock(&mutex_);
    Span* span = OpenLocked(parent, name, SpanKind::kInternal, begin);
    if (span == nullptr) return;
    span->end = end;
    span->attributes = attributes;
  }

  void Note(SpanId id, SpanAttribute attribute) {
    MutexLock lock(&mutex_);
    if (Span* span = Find(id)) span->attributes.push_back(std::move(attribute));
  }

  void Event(SpanId id, const char* name, std::initializer_list<SpanAttribute> attributes) {
    MutexLock lock(&mutex_);
    Span* span = Find(id);
    if (span == nullptr) return;
    if (n_events_ == kMaxEvents) {
      ++n_left_out_;
      return;
    }
    ++n_events_;
    span->events.push_back({name, MonotonicNow(), attributes});
  }

  void Close(SpanId id, const Status& status, MonotonicTime end) {
    MutexLock lock(&mutex_);
    Span* span = Find(id);
    if (span == nullptr || !span->open()) return;
    span->end = end;
    span->status = status;
  }

  TraceContext ContextOf(SpanId span) const { return {trace_, span ? span : root_, true, state_}; }

 private:
  // Null where there is no room. Valid until the next one is opened.
  Span* OpenLocked(SpanId parent, const char* name, SpanKind kind, MonotonicTime begin)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (spans_.size() == kMaxSpans) {
      ++n_left_out_;
      return nullptr;
    }
    // Drawn once: the system's source of randomness takes a microsecond or two.
    const uint64_t bits = Mix(id_seed_ + spans_.size());
    Span& span = spans_.emplace_back();
    std::memcpy(span.id.bytes.data(), &bits, sizeof(bits));
    if (!span.id) span.id.bytes.back() = 1;
    span.trace = trace_;
    span.parent = parent;
    span.name = name;
    span.kind = kind;
    span.begin = begin;
    return &span;
  }

  // There are few, and the one that is asked for is among the last.
  Span* Find(SpanId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto span = spans_.rbegin(); id && span != spans_.rend(); ++span) {
      if (span->id == id) return &*span;
    }
    return nullptr;
  }

  SpanSink* const sink_;
  const TraceId trace_;
  const std::string state_;
  const uint64_t id_seed_;
  SpanId root_;
  Mutex mutex_;
  std::vector<Span> spans_ ABSL_GUARDED_BY(mutex_);
  size_t n_events_ ABSL_GUARDED_BY(mutex_) = 0;
  size_t n_left_out_ ABSL_GUARDED_BY(mutex_) = 0;
};

Trace Trace::Begin(SpanSink* sink, const TraceContext& parent, const char* name, SpanKind kind,
                   MonotonicTime begin) {
  Trace trace;
  trace.spans_ = std::make_shared<Spans>(sink, parent, name, kind, begin);
  return trace;
}

SpanId Trace::root() const { return spans_ == nullptr ? SpanId() : spans_->root(); }

SpanId Trace::Open(SpanId parent, const char* name, SpanKind kind, MonotonicTime begin) const {
  return spans_ == nullptr ? SpanId() : spans_->Open(parent, name, kind, begin);
}

void Trace::Add(SpanId parent, const char* name, MonotonicTime begin, MonotonicTime end,
                std::initializer_list<SpanAttribute> attributes) const {
  if (spans_ != nullptr) spans_->Add(parent, name, begin, end, attributes);
}

void Trace::Note(SpanId span, SpanAttribute attribute) const {
  if (spans_ != nullptr) spans_->Note(span, std::move(attribute));
}

void Trace::Event(SpanId span, const char* name, std::initializer_list<SpanAttribute> attributes) const {
  if (spans_ != nullptr) spans_->Event(span, name, attributes);
}

void Trace::Close(SpanId span, const Status& status, MonotonicTime end) const {
  if (spans_ != nullptr) spans_->Close(span, status, end);
}

TraceContext Trace::ContextOf(SpanId span) const {
  return spans_ == nullptr ? TraceContext() : spans_->ContextOf(span);
}

Trace Tracer::Begin(const TraceContext& parent, std::optional<TraceId> own, const char* name, SpanKind kind,
                    MonotonicTime begin) const {
  if (sink_ == nullptr) return {};
  if (parent) return parent.sampled ? Trace::Begin(sink_, parent, name, kind, begin) : Trace();
  TraceContext context;
  context.trace = own ? *own : TraceId::Draw();
  // By the trace id's last bytes, so that whoever else samples by them takes the same traces.
  uint64_t bits = 0;
  for (size_t i = TraceId::kBytes - sizeof(bits); i < TraceId::kBytes; ++i) {
    bits = bits << 8 | context.trace.bytes[i];
  }
  if (ToUnitInterval(bits) >= ratio_) return {};
  return Trace::Begin(sink_, context, name, kind, begin);
}

}  // namespace coterie
