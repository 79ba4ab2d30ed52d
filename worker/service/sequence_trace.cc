#include "worker/service/sequence_trace.h"

#include <algorithm>

#include "absl/strings/str_join.h"

namespace coterie::worker {

std::string ExpertsOf(const SequenceRequest& request) {
  if (request.adapters.empty()) return "base";
  return absl::StrJoin(request.adapters, ",", [](std::string* out, const AdapterUse& use) {
    out->append(use.name.empty() ? use.digest.Short() : use.name);
  });
}

void WriteSequenceSpans(const Sequence& s) {
  const Trace& trace = s.request.trace;
  if (!trace) return;
  const SpanId root = trace.root();
  const SequenceTimes& times = s.times;
  // What had not come to its end when the sequence ended, ended with it.
  const auto end = [&times](MonotonicTime time) { return std::min(time, times.finished); };
  const SpanId queue = trace.Open(root, "queue", SpanKind::kInternal, s.arrival);
  if (times.load_began < times.finished) {
    trace.Add(queue, "adapter load", times.load_began, end(times.load_ended),
              {{"coterie.expert", ExpertsOf(s.request)}});
  }
  trace.Close(queue, absl::OkStatus(), end(times.started));
  if (times.started < times.finished) {
    // Those of an answer that goes on here are computed as a prompt's are.
    trace.Add(root, "prefill", times.started, end(times.first_token),
              {{"coterie.prompt_tokens", s.n_prompt}, {"coterie.cached_tokens", s.cached_prompt_tokens}});
  }
  if (times.first_token < times.finished) {
    trace.Add(root, "decode", times.first_token, times.finished,
              {{"coterie.answer_tokens", s.answer_position()}});
  }
  trace.Note(root, {"coterie.expert", ExpertsOf(s.request)});
  trace.Note(root, {"coterie.finish", NameOf(s.finish)});
  trace.Close(root, s.error, times.finished);
}

}  // namespace coterie::worker
