#include "net/trace/span_exporter.h"

#include <signal.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <deque>
#include <iterator>
#include <utility>

#include "common/clock.h"
#include "common/file_descriptor.h"
#include "common/log/named.h"
#include "common/log_allowance.h"
#include "common/mutex.h"
#include "net/trace/http_post.h"
#include "net/trace/otlp_endpoint.h"
#include "spdlog/spdlog.h"

namespace coterie::net {
namespace {

constexpr char kMetric[] = "coterie_trace_spans_total";
constexpr char kMetricHelp[] =
    "Spans of traces: sent to the receiver, dropped since too many waited, or lost since the receiver did "
    "not "
    "take them.";

// Failures that pass, as OTLP/HTTP names them.
bool MayPass(int http_status) {
  return http_status == 429 || http_status == 502 || http_status == 503 || http_status == 504;
}

}  // namespace

// What the thread works on. It outlives the exporter where a name's look-up, which cannot be ended, outlasts
// its end.
class SpanExporter::Loop {
 public:
  Loop(SpanExporterOptions options, std::unique_ptr<HttpPoster> poster, MetricsRegistry* registry)
      : options_(std::move(options)),
        poster_(std::move(poster)),
        stop_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        sent_(&registry->Counter(kMetric, kMetricHelp, {{"result", "sent"}})),
        dropped_(&registry->Counter(kMetric, kMetricHelp, {{"result", "dropped"}})),
        lost_(&registry->Counter(kMetric, kMetricHelp, {{"result", "lost"}})) {}

  void Take(std::vector<Span> spans) {
    MutexLock lock(&mutex_);
    if (stopping_ || n_waiting_ + spans.size() > options_.max_spans) {
      dropped_->Increment(static_cast<double>(spans.size()));
      return;
    }
    const size_t before = n_waiting_;
    n_waiting_ += spans.size();
    waiting_.push_back(std::move(spans));
    // The thread waits for the first, and then until there are enough.
    if (before == 0 || (before < options_.max_batch_spans && n_waiting_ >= options_.max_batch_spans)) {
      changed_.SignalAll();
    }
  }

  void Run() {
    // OpenSSL writes to sockets that may be closed.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    while (true) {
      const std::vector<Span> batch = NextBatch();
      if (batch.empty()) break;
      Send(batch);
    }
    MutexLock lock(&mutex_);
    over_ = true;
    changed_.SignalAll();
  }

  // False: the thread is held by what cannot be ended, and touches nothing but this when it comes back.
  bool Stop() {
    MutexLock lock(&mutex_);
    stopping_ = true;
    end_ = MonotonicNow() + options_.last_post_timeout;
    changed_.SignalAll();
    while (!over_ && MonotonicNow() < end_) changed_.WaitUntil(&mutex_, end_);
    (void)eventfd_write(stop_fd_.get(), 1);  // ends the POST under way
    const MonotonicTime until = MonotonicNow() + options_.last_post_timeout;
    while (!over_ && MonotonicNow() < until) changed_.WaitUntil(&mutex_, until);
    abandoned_ = !over_;
    return over_;
  }

 private:
  // Empty: it is over.
  std::vector<Span> NextBatch() {
    MutexLock lock(&mutex_);
    while (waiting_.empty() && !stopping_) changed_.Wait(&mutex_);
    const MonotonicTime until = MonotonicNow() + options_.batch_delay;
    while (!stopping_ && n_waiting_ < options_.max_batch_spans && MonotonicNow() < until) {
      changed_.WaitUntil(&mutex_, until);
    }
    std::vector<Span> batch;
    while (!waiting_.empty() &&
           (batch.empty() || batch.size() + waiting_.front().size() <= options_.max_batch_spans)) {
      std::vector<Span>& next = waiting_.front();
      batch.insert(batch.end(), std::make_move_iterator(next.begin()), std::make_move_iterator(next.end()));
      waiting_.pop_front();
    }
    n_waiting_ -= batch.size();
    return batch;
  }

  void Send(const std::vector<Span>& batch) {
    const std::string body = OtlpMessage(options_.service, batch);
    absl::Duration pause = options_.first_retry;
    for (int n_tries = 1;; ++n_tries) {
      bool may_pass = true;
      const StatusOr<int64_t> n_rejected = Post(body, &may_pass);
      if (n_rejected.ok()) return Count(batch.size(), *n_rejected, absl::OkStatus());
      if (!may_pass || n_tries == options_.max_tries || !Pause(pause)) {
        return Count(batch.size(), static_cast<int64_t>(batch.size()), n_rejected.status());
      }
      pause *= 2;
    }
  }

  // How many spans the receiver did not take.
  StatusOr<int64_t> Post(const std::string& body, bool* may_pass) {
    MonotonicTime deadline = MonotonicNow() + options_.post_timeout;
    {
      MutexLock lock(&mutex_);
      if (stopping_) deadline = std::min(deadline, end_);
    }
    ASSIGN_OR_RETURN(const HttpAnswer answer,
                     poster_->Post("application/x-protobuf", body, deadline, stop_fd_.get()));
    if (answer.status / 100 == 2) return RejectedSpans(answer.body);
    *may_pass = MayPass(answer.status);
    return absl::UnavailableError(absl::StrCat("it answers with status ", answer.status));
  }

  // False once it is to end.
  bool Pause(absl::Duration time) {
    const MonotonicTime until = MonotonicNow() + time;
    MutexLock lock(&mutex_);
    while (!stopping_ && MonotonicNow() < until) changed_.WaitUntil(&mutex_, until);
    return !stopping_;
  }

  void Count(size_t n_spans, int64_t n_lost, const Status& why) {
    MutexLock lock(&mutex_);
    if (abandoned_) return;  // the registry may be gone
    const double lost = std::min(static_cast<double>(n_lost), static_cast<double>(n_spans));
    sent_->Increment(static_cast<double>(n_spans) - lost);
    lost_->Increment(lost);
    if (lost == 0) return;
    const std::optional<uint64_t> n_left_out = lines_.Note(MonotonicNow());
    if (!n_left_out) return;
    spdlog::warn("traces: {} does not take {} spans: {} ({} more times since the last such line)",
                 Named("endpoint", options_.endpoint), Named("spans", n_lost),
                 Named("why", why.ok() ? "it refused some of a request" : std::string(why.message())),
                 Named("left_out", *n_left_out));
  }

  const SpanExporterOptions options_;
  const std::unique_ptr<HttpPoster> poster_;
  const FileDescriptor stop_fd_;
  prometheus::Counter* const sent_;
  prometheus::Counter* const dropped_;
  prometheus::Counter* const lost_;

  Mutex mutex_;
  CondVar changed_;
  std::deque<std::vector<Span>> waiting_ ABSL_GUARDED_BY(mutex_);  // by request
  size_t n_waiting_ ABSL_GUARDED_BY(mutex_) = 0;                   // spans of all
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  MonotonicTime end_ ABSL_GUARDED_BY(mutex_) = MonotonicTime::InfiniteFuture();
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  bool abandoned_ ABSL_GUARDED_BY(mutex_) = false;
  LogAllowance lines_ ABSL_GUARDED_BY(mutex_){absl::Minutes(1)};
};

StatusOr<std::unique_ptr<SpanExporter>> SpanExporter::Start(SpanExporterOptions options,
                                                            MetricsRegistry* registry) {
  ASSIGN_OR_RETURN(OtlpEndpoint endpoint, OtlpEndpoint::Parse(options.endpoint));
  ASSIGN_OR_RETURN(std::unique_ptr<HttpPoster> poster,
                   HttpPoster::Create(std::move(endpoint), options.ca_file, options.headers_file));
  auto loop = std::make_shared<Loop>(std::move(options), std::move(poster), registry);
  return std::unique_ptr<SpanExporter>(new SpanExporter(std::move(loop)));
}

SpanExporter::SpanExporter(std::shared_ptr<Loop> loop)
    : loop_(std::move(loop)), thread_([loop = loop_] { loop->Run(); }) {}

SpanExporter::~SpanExporter() {
  if (loop_->Stop()) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void SpanExporter::Take(std::vector<Span> spans) { loop_->Take(std::move(spans)); }

}  // namespace coterie::net
