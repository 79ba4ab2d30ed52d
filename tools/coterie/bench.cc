// coterie bench: a closed loop against a running cluster.
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"
#include "tools/coterie/load.h"
#include "tools/coterie/question.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

struct BenchOptions {
  LoadOptions load;
  int prompt_words = 100;
  int output_tokens = 64;
  std::vector<std::string> experts;  // taken in turn; empty: the one of --expert
  bool shared_prompt = false;
  std::string out;
};

// All figures of one run, in one place for both ways to print them.
struct Report {
  size_t n_ok = 0;
  double wall_seconds = 0;
  uint64_t prompt_tokens = 0, cached_prompt_tokens = 0, completion_tokens = 0;
  Percentiles first_token, per_token, gap, total;
  std::map<std::string, int> errors, experts, workers;
};

Report Summarize(const LoadResult& result) {
  Report report;
  report.wall_seconds = result.wall_seconds;
  std::vector<double> first, per_token, gap, total;
  for (const Sample& sample : result.samples) {
    if (!sample.status.ok()) {
      ++report.errors[absl::StrCat(absl::StatusCodeToString(sample.status.code()), ": ",
                                   sample.status.message())];
      continue;
    }
    ++report.n_ok;
    ++report.experts[sample.expert];
    ++report.workers[sample.worker];
    report.prompt_tokens += sample.prompt_tokens;
    report.cached_prompt_tokens += sample.cached_prompt_tokens;
    report.completion_tokens += sample.completion_tokens;
    if (sample.completion_tokens > 0) first.push_back(sample.first_token_seconds);
    if (sample.completion_tokens > 1) per_token.push_back(sample.seconds_per_token());
    gap.insert(gap.end(), sample.gap_seconds.begin(), sample.gap_seconds.end());
    total.push_back(sample.total_seconds);
  }
  report.first_token = Percentiles::Of(std::move(first));
  report.per_token = Percentiles::Of(std::move(per_token));
  report.gap = Percentiles::Of(std::move(gap));
  report.total = Percentiles::Of(std::move(total));
  return report;
}

double Rate(uint64_t n, double seconds) { return seconds > 0 ? static_cast<double>(n) / seconds : 0; }

nlohmann::json ToJson(const Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p95", p.p95}, {"p99", p.p99}, {"max", p.max}};
}

nlohmann::json ToJson(const BenchOptions& options, const Report& report) {
  return {
      {"loop", "closed"},
      {"concurrency", options.load.concurrency},
      {"requests", options.load.n_requests},
      {"warmup_requests", options.load.n_warmup},
      {"prompt_words", options.prompt_words},
      {"output_tokens", options.output_tokens},
      {"shared_prompt", options.shared_prompt},
      {"ok", report.n_ok},
      {"errors", report.errors},
      {"experts", report.experts},
      {"workers", report.workers},
      {"wall_seconds", report.wall_seconds},
      {"prompt_tokens", report.prompt_tokens},
      {"cached_prompt_tokens", report.cached_prompt_tokens},
      {"completion_tokens", report.completion_tokens},
      {"requests_per_second", Rate(report.n_ok, report.wall_seconds)},
      {"completion_tokens_per_second", Rate(report.completion_tokens, report.wall_seconds)},
      {"total_tokens_per_second", Rate(report.prompt_tokens + report.completion_tokens, report.wall_seconds)},
      {"first_token_seconds", ToJson(report.first_token)},
      {"per_output_token_seconds", ToJson(report.per_token)},
      {"message_gap_seconds", ToJson(report.gap)},
      {"total_seconds", ToJson(report.total)}};
}

void Print(const BenchOptions& options, const Report& report) {
  std::printf(
      "%d answers, %d in flight, in %s: %.2f answers/s, %.1f tokens/s out, %.1f tokens/s in and out\n",
      static_cast<int>(report.n_ok), options.load.concurrency, FormatSeconds(report.wall_seconds).c_str(),
      Rate(report.n_ok, report.wall_seconds), Rate(report.completion_tokens, report.wall_seconds),
      Rate(report.prompt_tokens + report.completion_tokens, report.wall_seconds));
  if (report.n_ok > 0) {
    std::printf("tokens: %.1f in a prompt (%.1f of them cached), %.1f in an answer\n\n",
                static_cast<double>(report.prompt_tokens) / static_cast<double>(report.n_ok),
                static_cast<double>(report.cached_prompt_tokens) / static_cast<double>(report.n_ok),
                static_cast<double>(report.completion_tokens) / static_cast<double>(report.n_ok));
  }
  std::vector<std::vector<std::string>> rows = {{"", "mean", "p50", "p90", "p95", "p99", "max"}};
  const auto row = [&](const char* name, const Percentiles& p) {
    rows.push_back({name, FormatSeconds(p.mean), FormatSeconds(p.p50), FormatSeconds(p.p90),
                    FormatSeconds(p.p95), FormatSeconds(p.p99), FormatSeconds(p.max)});
  };
  row("first token", report.first_token);
  row("per output token", report.per_token);
  row("between messages", report.gap);
  row("whole answer", report.total);
  std::printf("%s\n", FormatTable(rows).c_str());
  const auto counts = [](const char* title, const std::map<std::string, int>& map) {
    if (map.empty()) return;
    std::printf("%s %s\n", title, absl::StrJoin(map, ", ", absl::PairFormatter(" × ")).c_str());
  };
  counts("experts:", report.experts);
  counts("workers:", report.workers);
  counts("errors:", report.errors);
}

Status WriteReport(const std::string& path, const nlohmann::json& json) {
  std::ofstream file(path);
  file << json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  file.close();
  return file ? absl::OkStatus() : absl::UnknownError(absl::StrCat("cannot write the report ", path));
}

}  // namespace

int RunBench(std::span<const std::string> args) {
  Connection connection;
  QuestionOptions question;
  BenchOptions options;
  FlagSet flags(
      "coterie bench",
      "Measures a running cluster in a closed loop: a number of requests is always in flight. Every prompt\n"
      "is another text, and answers run to their full length.");
  flags.Section("Load");
  flags.Int("concurrency", &options.load.concurrency, 1, 1024, "N", "requests in flight");
  flags.Int("requests", &options.load.n_requests, 1, 1'000'000, "N", "measured requests");
  flags.Int("warmup", &options.load.n_warmup, 0, 100'000, "N", "requests before them that are not measured");
  flags.Int("prompt-words", &options.prompt_words, 1, 1'000'000, "N", "words of a prompt");
  flags.Int("output-tokens", &options.output_tokens, 1, 1 << 20, "N", "tokens of an answer");
  flags.Strings("experts", &options.experts, "NAME",
                "experts asked in turn; none given: the one of --expert");
  flags.Bool("shared-prompt", &options.shared_prompt, "one text for all requests: measures the prefix cache");
  flags.String("out", &options.out, "FILE", "write the report as JSON here too");
  AddRoutingFlags(&flags, &question);
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();
  question.max_tokens = options.output_tokens;
  client::Client client(connection.options);
  // Says at once when nobody is there, instead of once per request.
  if (const auto status = client.ClusterStatus(); !status.ok()) return Fail(status.status(), connection.json);

  const LoadResult result = RunClosedLoop(&client, connection.options.cancellation, options.load, [&](int i) {
    QuestionOptions mine = question;
    if (!options.experts.empty())
      mine.expert = options.experts[static_cast<size_t>(i) % options.experts.size()];
    v1::GenerateRequest request =
        MakeGenerateRequest(mine, FillerText(options.shared_prompt ? 0 : i, options.prompt_words));
    request.mutable_sampling()->set_ignore_eos(true);
    return request;
  });
  if (connection.options.cancellation->cancelled())
    return Fail(absl::CancelledError("interrupted"), connection.json);
  const Report report = Summarize(result);
  const nlohmann::json json = ToJson(options, report);
  if (connection.json) {
    std::printf("%s\n", Dump(json).c_str());
  } else {
    Print(options, report);
  }
  if (!options.out.empty()) {
    if (const Status status = WriteReport(options.out, json); !status.ok())
      return Fail(status, connection.json);
  }
  return report.errors.empty() ? kDone : kFailed;
}

}  // namespace coterie::command
