#include "tools/coterie/bench_report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

using nlohmann::json;

double Rate(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

Summary SummaryOf(const std::vector<const Sample*>& samples, const GoodputLimits& limits) {
  Summary summary;
  std::vector<double> routing, first, per_token, gap, total, late;
  for (const Sample* sample : samples) {
    if (!sample->status.ok()) {
      ++summary.n_failed;
      continue;
    }
    ++summary.n_ok;
    summary.prompt_tokens += sample->prompt_tokens;
    summary.cached_prompt_tokens += sample->cached_prompt_tokens;
    summary.completion_tokens += sample->completion_tokens;
    if (sample->completion_tokens > 0) first.push_back(sample->first_token_seconds);
    if (sample->completion_tokens > 1) per_token.push_back(sample->seconds_per_token());
    gap.insert(gap.end(), sample->gap_seconds.begin(), sample->gap_seconds.end());
    total.push_back(sample->total_seconds);
    late.push_back(sample->late_seconds);
    if (sample->routing_seconds > 0) routing.push_back(sample->routing_seconds);
    if (limits.Keeps(*sample)) {
      ++summary.n_good;
      summary.good_completion_tokens += sample->completion_tokens;
    }
  }
  summary.routing = Percentiles::Of(std::move(routing));
  summary.first_token = Percentiles::Of(std::move(first));
  summary.per_token = Percentiles::Of(std::move(per_token));
  summary.gap = Percentiles::Of(std::move(gap));
  summary.total = Percentiles::Of(std::move(total));
  summary.late = Percentiles::Of(std::move(late));
  return summary;
}

json AsJson(const Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p95", p.p95}, {"p99", p.p99}, {"max", p.max}};
}

json AsJson(const Summary& s, double wall_seconds, const GoodputLimits& limits) {
  json out = {{"ok", s.n_ok},
              {"failed", s.n_failed},
              {"prompt_tokens", s.prompt_tokens},
              {"cached_prompt_tokens", s.cached_prompt_tokens},
              {"completion_tokens", s.completion_tokens},
              {"requests_per_second", Rate(s.n_ok, wall_seconds)},
              {"completion_tokens_per_second", Rate(static_cast<double>(s.completion_tokens), wall_seconds)},
              {"total_tokens_per_second",
               Rate(static_cast<double>(s.prompt_tokens + s.completion_tokens), wall_seconds)},
              {"routing_seconds", AsJson(s.routing)},
              {"first_token_seconds", AsJson(s.first_token)},
              {"per_output_token_seconds", AsJson(s.per_token)},
              {"message_gap_seconds", AsJson(s.gap)},
              {"total_seconds", AsJson(s.total)},
              {"late_start_seconds", AsJson(s.late)}};
  if (limits.stated()) {
    out["goodput"] = {
        {"ok", s.n_good},
        {"share_of_requests", Rate(s.n_good, s.n_ok + s.n_failed)},
        {"requests_per_second", Rate(s.n_good, wall_seconds)},
        {"completion_tokens_per_second", Rate(static_cast<double>(s.good_completion_tokens), wall_seconds)}};
  }
  return out;
}

json AsJson(absl::Duration limit) {
  return limit == absl::InfiniteDuration() ? json() : json(absl::ToDoubleSeconds(limit));
}

void PrintExperts(const Report& report, const GoodputLimits& limits) {
  std::vector<std::vector<std::string>> rows = {
      {"expert", "answers", "first token p50", "p90", "per token p50", "p90", "whole answer p50", "p90"}};
  if (limits.stated()) rows[0].push_back("within limits");
  for (const auto& [name, s] : report.by_expert) {
    rows.push_back({name, absl::StrCat(s.n_ok), FormatSeconds(s.first_token.p50),
                    FormatSeconds(s.first_token.p90), FormatSeconds(s.per_token.p50),
                    FormatSeconds(s.per_token.p90), FormatSeconds(s.total.p50), FormatSeconds(s.total.p90)});
    if (limits.stated()) rows.back().push_back(absl::StrCat(s.n_good));
  }
  std::printf("%s\n", FormatTable(rows).c_str());
}

}  // namespace

Percentiles Percentiles::Of(std::vector<double> values) {
  Percentiles out;
  if (values.empty()) return out;
  std::sort(values.begin(), values.end());
  const auto at = [&](double p) {
    const double rank = std::ceil(p * static_cast<double>(values.size()));
    return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  for (const double v : values) out.mean += v / static_cast<double>(values.size());
  out.p50 = at(0.50);
  out.p90 = at(0.90);
  out.p95 = at(0.95);
  out.p99 = at(0.99);
  out.max = values.back();
  return out;
}

bool GoodputLimits::stated() const {
  return std::min({first_token, per_token, total}) < absl::InfiniteDuration();
}

bool GoodputLimits::Keeps(const Sample& sample) const {
  return sample.status.ok() && absl::Seconds(sample.first_token_seconds) <= first_token &&
         absl::Seconds(sample.seconds_per_token()) <= per_token &&
         absl::Seconds(sample.total_seconds) <= total;
}

Report Summarize(const LoadResult& result, const GoodputLimits& limits) {
  Report report;
  report.wall_seconds = result.wall_seconds;
  std::vector<const Sample*> all;
  std::map<std::string, std::vector<const Sample*>> by_expert;
  for (const Sample& sample : result.samples) {
    all.push_back(&sample);
    if (!sample.expert.empty()) by_expert[sample.expert].push_back(&sample);
    if (sample.status.ok()) {
      ++report.workers[sample.worker];
    } else {
      ++report.errors[absl::StrCat(absl::StatusCodeToString(sample.status.code()), ": ",
                                   sample.status.message())];
    }
  }
  report.all = SummaryOf(all, limits);
  for (const auto& [name, samples] : by_expert) report.by_expert[name] = SummaryOf(samples, limits);
  return report;
}

json ToJson(const Report& report, const GoodputLimits& limits) {
  json out = AsJson(report.all, report.wall_seconds, limits);
  out["wall_seconds"] = report.wall_seconds;
  out["errors"] = report.errors;
  out["workers"] = report.workers;
  out["experts"] = json::object();
  out["by_expert"] = json::object();
  for (const auto& [name, summary] : report.by_expert) {
    out["experts"][name] = summary.n_ok;
    out["by_expert"][name] = AsJson(summary, report.wall_seconds, limits);
  }
  if (limits.stated()) {
    out["goodput"]["limits"] = {{"first_token_seconds", AsJson(limits.first_token)},
                                {"per_output_token_seconds", AsJson(limits.per_token)},
                                {"total_seconds", AsJson(limits.total)}};
  }
  return out;
}

json ToJson(const Sample& sample) {
  return {{"expert", sample.expert},
          {"worker", sample.worker},
          {"status", absl::StatusCodeToString(sample.status.code())},
          {"start_seconds", sample.start_seconds},
          {"late_start_seconds", sample.late_seconds},
          {"routing_seconds", sample.routing_seconds},
          {"first_token_seconds", sample.first_token_seconds},
          {"per_output_token_seconds", sample.seconds_per_token()},
          {"total_seconds", sample.total_seconds},
          {"prompt_tokens", sample.prompt_tokens},
          {"cached_prompt_tokens", sample.cached_prompt_tokens},
          {"completion_tokens", sample.completion_tokens}};
}

void Print(const Report& report, const GoodputLimits& limits, bool open) {
  const Summary& all = report.all;
  std::printf("%d answers in %s: %.2f answers/s, %.1f tokens/s out, %.1f tokens/s in and out\n", all.n_ok,
              FormatSeconds(report.wall_seconds).c_str(), Rate(all.n_ok, report.wall_seconds),
              Rate(static_cast<double>(all.completion_tokens), report.wall_seconds),
              Rate(static_cast<double>(all.prompt_tokens + all.completion_tokens), report.wall_seconds));
  if (all.n_ok > 0) {
    const auto mean = [&](uint64_t n) { return static_cast<double>(n) / all.n_ok; };
    std::printf("tokens: %.1f in a prompt (%.1f of them cached), %.1f in an answer\n",
                mean(all.prompt_tokens), mean(all.cached_prompt_tokens), mean(all.completion_tokens));
  }
  if (limits.stated()) {
    std::printf("within the limits: %d of %d answers (%.1f %%), %.2f answers/s, %.1f tokens/s out\n",
                all.n_good, all.n_ok + all.n_failed, 100 * Rate(all.n_good, all.n_ok + all.n_failed),
                Rate(all.n_good, report.wall_seconds),
                Rate(static_cast<double>(all.good_completion_tokens), report.wall_seconds));
  }
  std::vector<std::vector<std::string>> rows = {{"", "mean", "p50", "p90", "p95", "p99", "max"}};
  const auto row = [&](const char* name, const Percentiles& p) {
    rows.push_back({name, FormatSeconds(p.mean), FormatSeconds(p.p50), FormatSeconds(p.p90),
                    FormatSeconds(p.p95), FormatSeconds(p.p99), FormatSeconds(p.max)});
  };
  if (all.routing.max > 0) row("routing", all.routing);
  row("first token", all.first_token);
  row("per output token", all.per_token);
  row("between messages", all.gap);
  row("whole answer", all.total);
  if (open) row("sent late by", all.late);
  std::printf("\n%s\n", FormatTable(rows).c_str());
  if (report.by_expert.size() > 1) PrintExperts(report, limits);
  const auto counts = [](const char* title, const std::map<std::string, int>& map) {
    if (!map.empty())
      std::printf("%s %s\n", title, absl::StrJoin(map, ", ", absl::PairFormatter(" × ")).c_str());
  };
  counts("workers:", report.workers);
  counts("errors:", report.errors);
}

}  // namespace coterie::command
