#include "common/trace/trace.h"

#include <set>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "tests/testing/kept_spans.h"

namespace coterie {
namespace {

using testing::AttributeOf;
using testing::KeptSpans;

TraceContext Parent(bool sampled) {
  TraceContext context{TraceId::Draw(), SpanId::Draw(), sampled, "vendor=1"};
  return context;
}

TEST(TraceTest, SpansAreBelowEachOtherAndLeaveTogetherWithTheLastCopy) {
  KeptSpans kept;
  const TraceContext parent = Parent(true);
  {
    Trace trace = Trace::Begin(&kept, parent, "request", SpanKind::kServer, MonotonicNow());
    const SpanId place = trace.Open(trace.root(), "place");
    trace.Note(place, {"worker", "w0"});
    trace.Event(trace.root(), "moved", {{"tokens", 3}, {"planned", false}});
    trace.Close(place, absl::UnavailableError("gone"));
    trace.Close(place);  // the first one counts
    const Trace copy = trace;
    trace.Close(trace.root());
    trace = Trace();
    EXPECT_EQ(kept.n_taken(), 0u);
    const TraceContext next = copy.ContextOf(place);
    EXPECT_EQ(next.trace, parent.trace);
    EXPECT_EQ(next.span, place);
    EXPECT_TRUE(next.sampled);
    EXPECT_EQ(next.state, "vendor=1");
  }
  EXPECT_EQ(kept.n_taken(), 1u);
  const std::vector<Span> spans = kept.All();
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(spans[0].parent, parent.span);
  EXPECT_EQ(spans[0].state, "vendor=1");
  EXPECT_EQ(spans[1].parent, spans[0].id);
  EXPECT_EQ(spans[1].trace, parent.trace);
  EXPECT_EQ(spans[1].status.message(), "gone");
  ASSERT_EQ(spans[0].events.size(), 1u);
  EXPECT_EQ(std::get<int64_t>(*AttributeOf(spans[0].events[0].attributes, "tokens")), 3);
  EXPECT_FALSE(std::get<bool>(*AttributeOf(spans[0].events[0].attributes, "planned")));
  for (const Span& span : spans) EXPECT_FALSE(span.open());
}

TEST(TraceTest, AnEmptyOneTakesEveryCall) {
  const Trace trace;
  EXPECT_FALSE(trace);
  const SpanId span = trace.Open(trace.root(), "a");
  trace.Note(span, {"key", 1});
  trace.Event(span, "b");
  trace.Close(span);
  EXPECT_FALSE(span);
  EXPECT_FALSE(trace.ContextOf(span));
}

TEST(TraceTest, OneRequestRecordsSoMuchAndNoMore) {
  KeptSpans kept;
  {
    const Trace trace = Trace::Begin(&kept, Parent(true), "request", SpanKind::kServer, MonotonicNow());
    for (int i = 0; i < 1000; ++i) {
      const SpanId span = trace.Open(trace.root(), "attempt");
      trace.Event(span, "refused");
      trace.Event(trace.root(), "refused");
    }
  }
  const std::vector<Span> spans = kept.All();
  EXPECT_EQ(spans.size(), Trace::kMaxSpans);
  size_t n_events = 0;
  std::set<std::string> ids;
  for (const Span& span : spans) {
    n_events += span.events.size();
    ids.insert(span.id.ToHex());
  }
  EXPECT_EQ(n_events, Trace::kMaxEvents);
  EXPECT_EQ(ids.size(), spans.size());
  // 1,000 spans and 1,000 events of the root and those of the 63 that are there, less what is there.
  EXPECT_EQ(std::get<int64_t>(*AttributeOf(spans[0].attributes, "coterie.left_out")),
            static_cast<int64_t>(1000 - 63 + 1000 + 63 - Trace::kMaxEvents));
}

TEST(TraceTest, TextsAreCutAndWellFormed) {
  const SpanAttribute attribute("text", std::string(300, 'a') + "\xff");
  EXPECT_EQ(std::get<std::string>(attribute.value), std::string(256, 'a'));
  EXPECT_EQ(std::get<std::string>(SpanAttribute("text", "a\xff").value), "a\xEF\xBF\xBD");
}

TEST(TraceTest, ThreadsShareOne) {
  KeptSpans kept;
  {
    const Trace trace = Trace::Begin(&kept, Parent(true), "request", SpanKind::kServer, MonotonicNow());
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([trace] {
        for (int n = 0; n < 15; ++n) trace.Close(trace.Open(trace.root(), "part"));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(kept.Named("part").size(), 60u);
}

TEST(TracerTest, ACallersDecisionHoldsWhateverTheRatio) {
  KeptSpans kept;
  for (const double ratio : {0.0, 1.0}) {
    const Tracer tracer(&kept, ratio);
    EXPECT_TRUE(tracer.Begin(Parent(true), std::nullopt, "a", SpanKind::kServer, MonotonicNow()));
    EXPECT_FALSE(tracer.Begin(Parent(false), std::nullopt, "a", SpanKind::kServer, MonotonicNow()));
  }
  EXPECT_EQ(kept.n_taken(), 2u);
}

TEST(TracerTest, OfTheOthersItTakesARatioAndTheirOwnId) {
  KeptSpans kept;
  const Tracer tracer(&kept, 0.25);
  int n = 0;
  for (int i = 0; i < 4000; ++i) {
    n += tracer.Begin({}, std::nullopt, "a", SpanKind::kServer, MonotonicNow()) ? 1 : 0;
  }
  EXPECT_NEAR(n, 1000, 170);                                                  // six standard deviations
  const TraceId own = *TraceId::FromHex("0000000000000001000000000000ffff");  // a small one is taken first
  const Trace trace = tracer.Begin({}, own, "a", SpanKind::kServer, MonotonicNow());
  EXPECT_EQ(trace.ContextOf(trace.root()).trace, own);
  EXPECT_FALSE(Tracer(nullptr, 1).Begin(Parent(true), own, "a", SpanKind::kServer, MonotonicNow()));
}

}  // namespace
}  // namespace coterie
