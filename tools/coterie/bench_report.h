#ifndef COTERIE_TOOLS_COTERIE_BENCH_REPORT_H_
#define COTERIE_TOOLS_COTERIE_BENCH_REPORT_H_

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tools/coterie/load.h"

namespace coterie::command {

// Nearest-rank percentiles; zeros without values.
struct Percentiles {
  double mean = 0, p50 = 0, p90 = 0, p95 = 0, p99 = 0, max = 0;
  static Percentiles Of(std::vector<double> values);
};

// What an answer must keep to count as good. Infinite: not stated.
struct GoodputLimits {
  absl::Duration first_token = absl::InfiniteDuration();
  absl::Duration per_token = absl::InfiniteDuration();  // mean after the first
  absl::Duration total = absl::InfiniteDuration();

  bool stated() const;
  bool Keeps(const Sample& sample) const;  // false for one that failed
};

// The figures of all answers, or of one expert's.
struct Summary {
  int n_ok = 0, n_failed = 0;
  uint64_t prompt_tokens = 0, cached_prompt_tokens = 0, completion_tokens = 0;
  Percentiles routing, first_token, per_token, gap, total, late;  // seconds
  int n_good = 0;
  uint64_t good_completion_tokens = 0;
};

struct Report {
  double wall_seconds = 0;
  Summary all;
  std::map<std::string, Summary> by_expert;  // who answered; those that failed before a route are in none
  std::map<std::string, int> errors, workers;
};

Report Summarize(const LoadResult& result, const GoodputLimits& limits);

// Every field names its unit.
nlohmann::json ToJson(const Report& report, const GoodputLimits& limits);
nlohmann::json ToJson(const Sample& sample);

// For people, on standard output.
void Print(const Report& report, const GoodputLimits& limits, bool open);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_BENCH_REPORT_H_
