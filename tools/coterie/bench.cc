// coterie bench: loads a running cluster and says what its clients saw.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <thread>

#include "absl/strings/str_format.h"
#include "common/clock.h"
#include "common/mutex.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/bench_report.h"
#include "tools/coterie/command.h"
#include "tools/coterie/load.h"
#include "tools/coterie/question.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

constexpr int kMostWords = 1'000'000;
constexpr int kMostTokens = 1 << 20;

struct BenchOptions {
  Connection connection;
  QuestionOptions question;
  LoadOptions load;
  LoadPlanOptions plan;
  GoodputLimits limits;

  int concurrency = 4;
  int most_running = 256;
  std::string arrivals = "poisson";
  std::string choice = "turn";
  std::string prompt_words = "100";
  std::string output_tokens = "64";
  bool all_experts = false;
  bool shared_prompt = false;
  bool progress = ::isatty(STDERR_FILENO) != 0;
  std::string out;
  std::string samples;

  BenchOptions() {
    plan.n_requests = 32;
    plan.n_warmup = 4;
    load.timeout = absl::Minutes(10);
  }
  void Declare(FlagSet* flags);
  // What flags cannot say by themselves.
  Status Finish(const FlagSet& flags);
};

void BenchOptions::Declare(FlagSet* flags) {
  flags->Section("Load");
  flags->Int("requests", &plan.n_requests, 1, 1'000'000, "N", "measured requests");
  flags->Int("warmup", &plan.n_warmup, 0, 100'000, "N", "requests before them that are not measured");
  flags->Int("concurrency", &concurrency, 1, 1024, "N", "closed loop: requests in flight");
  flags->Double("rate", &plan.rate, 0, 1e6, "R",
                "open loop: requests a second, whether answers come or not; 0: a closed loop");
  flags->Choice("arrivals", &arrivals, {"poisson", "even"}, "times between the arrivals of an open loop");
  flags->Int("max-running", &most_running, 1, 4096, "N",
             "open loop: more in flight start late, which counts");
  flags->Duration("request-timeout", &load.timeout, absl::Milliseconds(1), absl::Hours(24),
                  "after which a request counts as failed");
  flags->Int("seed", &plan.seed, 0, UINT64_MAX, "N", "of arrivals, lengths, experts and texts");
  flags->Section("Requests");
  flags->String("prompt-words", &prompt_words, "LENGTHS",
                "N, N-M, exponential:MEAN or lognormal:MEDIAN:SIGMA words; each is about one token");
  flags->String("output-tokens", &output_tokens, "LENGTHS", "tokens of an answer, written alike");
  flags->Strings("experts", &plan.experts, "NAME", "experts to ask; none given: the one of --expert");
  flags->Bool("all-experts", &all_experts, "ask every published expert");
  flags->Choice("choice", &choice, {"turn", "uniform", "zipf"},
                "which of them a request asks; zipf: the first most often");
  flags->Double("zipf", &plan.zipf_exponent, 0, 10, "S", "exponent of --choice=zipf");
  flags->Bool("shared-prompt", &shared_prompt, "one text for all requests: measures the prefix cache");
  flags->Section("Report");
  flags->Duration("limit-first-token", &limits.first_token, absl::ZeroDuration(), absl::InfiniteDuration(),
                  "goodput: count answers whose first token came by then");
  flags->Duration("limit-per-token", &limits.per_token, absl::ZeroDuration(), absl::InfiniteDuration(),
                  "goodput: and whose later tokens took no longer, in the mean");
  flags->Duration("limit-total", &limits.total, absl::ZeroDuration(), absl::InfiniteDuration(),
                  "goodput: and that were whole by then");
  flags->Bool("progress", &progress,
              "a line on the error stream while it runs; left out where that is no terminal");
  flags->String("out", &out, "FILE", "write the report as JSON here too");
  flags->String("samples", &samples, "FILE", "write every answer's times here, one JSON object a line");
  AddRoutingFlags(flags, &question);
  AddConnectionFlags(flags, &connection);
}

Status BenchOptions::Finish(const FlagSet& flags) {
  ASSIGN_OR_RETURN(plan.prompt_words, LengthDistribution::Parse("--prompt-words", prompt_words, kMostWords));
  ASSIGN_OR_RETURN(plan.output_tokens,
                   LengthDistribution::Parse("--output-tokens", output_tokens, kMostTokens));
  load.open = plan.rate > 0;
  if (load.open && flags.was_set("concurrency")) {
    return absl::InvalidArgumentError(
        "--concurrency is for a closed loop and --rate makes an open one; bound that with --max-running");
  }
  if (!load.open && (flags.was_set("arrivals") || flags.was_set("max-running"))) {
    return absl::InvalidArgumentError("--arrivals and --max-running are for an open loop; give its --rate");
  }
  if (all_experts && !plan.experts.empty()) {
    return absl::InvalidArgumentError("--experts and --all-experts exclude each other");
  }
  plan.poisson = arrivals == "poisson";
  plan.choice = choice == "zipf"      ? ExpertChoice::kZipf
                : choice == "uniform" ? ExpertChoice::kUniform
                                      : ExpertChoice::kTurn;
  load.max_running = load.open ? most_running : concurrency;
  load.n_warmup = plan.n_warmup;
  return absl::OkStatus();
}

StatusOr<std::vector<std::string>> PublishedExperts(client::Client* client) {
  std::vector<std::string> names;
  v1::ListExpertsRequest request;
  do {
    ASSIGN_OR_RETURN(const v1::ListExpertsResponse page, client->ListExperts(request));
    for (const v1::ExpertInfo& expert : page.experts()) names.push_back(expert.name());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  if (names.empty()) return absl::NotFoundError("--all-experts: no expert is published");
  return names;
}

// Shows how far the load is, until it is destroyed: over one line on a terminal, else a line every 5 s.
class ProgressLine {
 public:
  ProgressLine(const LoadProgress* progress, int n_requests)
      : progress_(progress), n_requests_(n_requests), terminal_(::isatty(STDERR_FILENO) != 0) {
    thread_ = std::thread([this] { Run(); });
  }
  ~ProgressLine() {
    {
      MutexLock lock(&mutex_);
      ended_ = true;
    }
    changed_.Signal();
    thread_.join();
    Show();
    if (terminal_) std::fprintf(stderr, "\n");
  }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

 private:
  void Run() {
    const absl::Duration interval = terminal_ ? absl::Milliseconds(500) : absl::Seconds(5);
    MonotonicTime next = begin_ + interval;
    MutexLock lock(&mutex_);
    while (!ended_) {
      if (MonotonicNow() >= next) {
        Show();
        next += interval;
      }
      changed_.WaitUntil(&mutex_, next);
    }
  }
  void Show() {
    const double seconds = absl::ToDoubleSeconds(MonotonicNow() - begin_);
    const int done = progress_->done + progress_->failed;
    std::string line = absl::StrFormat(
        "%d of %d answers, %d in flight, %.1f tokens/s, %s", done, n_requests_, progress_->running.load(),
        static_cast<double>(progress_->completion_tokens) / std::max(seconds, 1e-9), FormatSeconds(seconds));
    if (const int failed = progress_->failed; failed > 0) absl::StrAppend(&line, ", ", failed, " failed");
    std::fprintf(stderr, terminal_ ? "\r%s\x1b[K" : "%s\n", line.c_str());
  }

  const LoadProgress* progress_;
  const int n_requests_;
  const bool terminal_;
  const MonotonicTime begin_ = MonotonicNow();
  Mutex mutex_;
  CondVar changed_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

nlohmann::json Describe(const BenchOptions& o) {
  nlohmann::json out = {{"loop", o.load.open ? "open" : "closed"},
                        {"requests", o.plan.n_requests},
                        {"warmup_requests", o.plan.n_warmup},
                        {"seed", o.plan.seed},
                        {"prompt_words", o.prompt_words},
                        {"output_tokens", o.output_tokens},
                        {"expert_choice", o.choice},
                        {"shared_prompt", o.shared_prompt}};
  if (o.load.open) {
    out["offered_requests_per_second"] = o.plan.rate;
    out["arrivals"] = o.arrivals;
    out["max_running"] = o.most_running;
  } else {
    out["concurrency"] = o.concurrency;
  }
  if (o.choice == "zipf") out["zipf_exponent"] = o.plan.zipf_exponent;
  return out;
}

Status WriteLines(const std::string& path, const std::vector<nlohmann::json>& objects, int indent) {
  std::ofstream file(path);
  for (const nlohmann::json& object : objects)
    file << object.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  file.close();
  return file ? absl::OkStatus() : absl::UnknownError(absl::StrCat("cannot write the report ", path));
}

// Asks, shows, writes. The result says whether every request was answered.
StatusOr<bool> Bench(BenchOptions* options, client::Client* client) {
  const client::Cancellation& cancellation = *options->connection.options.cancellation;
  // Says at once when nobody is there, instead of once per request.
  RETURN_IF_ERROR(client->ClusterStatus().status());
  if (options->all_experts) {
    ASSIGN_OR_RETURN(options->plan.experts, PublishedExperts(client));
  }
  const std::vector<PlannedRequest> plan = MakeLoadPlan(options->plan);
  LoadProgress progress;
  LoadResult result;
  {
    std::unique_ptr<ProgressLine> line;
    if (options->progress) line = std::make_unique<ProgressLine>(&progress, options->plan.n_requests);
    const auto make_request = [&](const PlannedRequest& planned) {
      QuestionOptions mine = options->question;
      if (!planned.expert.empty()) mine.expert = planned.expert;
      mine.max_tokens = planned.output_tokens;
      const uint64_t text_seed = options->shared_prompt ? options->plan.seed : planned.text_seed;
      v1::GenerateRequest request = MakeGenerateRequest(mine, FillerText(text_seed, planned.prompt_words));
      request.mutable_sampling()->set_ignore_eos(true);
      return request;
    };
    result = RunLoad(client, cancellation, options->load, plan, make_request, &progress);
  }
  if (cancellation.cancelled()) return absl::CancelledError("interrupted");
  const Report report = Summarize(result, options->limits);
  nlohmann::json json = ToJson(report, options->limits);
  json.update(Describe(*options));
  if (options->connection.json) {
    std::printf("%s\n", Dump(json).c_str());
  } else {
    Print(report, options->limits, options->load.open);
  }
  if (!options->out.empty()) RETURN_IF_ERROR(WriteLines(options->out, {json}, 1));
  if (!options->samples.empty()) {
    std::vector<nlohmann::json> lines;
    for (const Sample& sample : result.samples) lines.push_back(ToJson(sample));
    RETURN_IF_ERROR(WriteLines(options->samples, lines, -1));
  }
  return report.errors.empty();
}

}  // namespace

int RunBench(std::span<const std::string> args) {
  BenchOptions options;
  FlagSet flags(
      "coterie bench",
      "Measures a running cluster: in a closed loop, where a number of requests is always in "
      "flight, or in an open one, where they arrive at a rate of their own. Every prompt is another "
      "text, answers run to their full length, and an answer's time counts from the moment its "
      "request was meant to start.");
  options.Declare(&flags);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (const Status status = options.Finish(flags); !status.ok()) {
    Fail(status, options.connection.json);
    return kUsage;
  }
  options.connection.options.cancellation = InterruptCancellation();
  client::Client client(options.connection.options);
  const StatusOr<bool> all_answered = Bench(&options, &client);
  if (!all_answered.ok()) return Fail(all_answered.status(), options.connection.json);
  return *all_answered ? kDone : kFailed;
}

}  // namespace coterie::command
