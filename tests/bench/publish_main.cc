// Publishes expert folders to a running gateway, all at once or one after the other, and prints what it took.
//
//   bench_publish 127.0.0.1:7071 FOLDER --together   all folders below FOLDER in one generation
//   bench_publish 127.0.0.1:7071 FOLDER --first=4000 one at a time, from the 4000th in the order of names on
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "common/file.h"
#include "tests/bench/harness.h"
#include "tools/client/client.h"

namespace coterie::bench {
namespace {

namespace fs = std::filesystem;

struct Flags {
  std::string admin;
  std::string folder;
  size_t first = 0;
  size_t count = 1'000'000;
  bool together = false;
};

StatusOr<std::vector<client::ExpertFolder>> FoldersBelow(const Flags& flags) {
  std::vector<client::ExpertFolder> experts;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(flags.folder, error)) {
    experts.push_back({entry.path().filename().string(), entry.path()});
  }
  if (error) return ErrnoStatus(error.value(), "cannot list", flags.folder);
  std::sort(experts.begin(), experts.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  const size_t begin = std::min(flags.first, experts.size());
  const size_t n = std::min(flags.count, experts.size() - begin);
  if (n == 0) return absl::InvalidArgumentError(absl::StrCat("no folder in ", flags.folder, " to publish"));
  return std::vector(experts.begin() + static_cast<ptrdiff_t>(begin),
                     experts.begin() + static_cast<ptrdiff_t>(begin + n));
}

Status Run(const Flags& flags) {
  ASSIGN_OR_RETURN(const auto experts, FoldersBelow(flags));
  client::Client client({.admin_address = flags.admin});
  const Clock::time_point begin = Clock::now();
  std::vector<double> milliseconds;
  if (flags.together) {
    ASSIGN_OR_RETURN(const auto results, client.PublishExperts(experts));
    for (const auto& result : results) RETURN_IF_ERROR(result.status());
    milliseconds.push_back(Seconds(begin) * 1e3);
  } else {
    for (const auto& expert : experts) {
      const Clock::time_point one = Clock::now();
      RETURN_IF_ERROR(client.PublishExpert(expert).status());
      milliseconds.push_back(Seconds(one) * 1e3);
    }
  }
  const double seconds = Seconds(begin);
  std::sort(milliseconds.begin(), milliseconds.end());
  std::printf(
      "{\"experts\": %zu, \"calls\": %zu, \"seconds\": %.3f, \"call_median_ms\": %.2f, \"call_p90_ms\": "
      "%.2f, "
      "\"call_max_ms\": %.2f}\n",
      experts.size(), milliseconds.size(), seconds, Median(milliseconds),
      milliseconds[milliseconds.size() * 9 / 10], milliseconds.back());
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::Flags values;
  coterie::FlagSet flags("bench_publish", "Publishes the expert folders below a folder to a gateway.");
  flags.Positionals("ADMIN FOLDER", 2, 2);
  flags.Int("first", &values.first, 0, 1'000'000, "N",
            "folders before it, in the order of names, are left out");
  flags.Int("count", &values.count, 1, 1'000'000, "N", "folders at most");
  flags.Bool("together", &values.together, "in one call and one generation");
  return coterie::bench::Main(&flags, argc, argv, [&] {
    values.admin = flags.positionals()[0];
    values.folder = flags.positionals()[1];
    return coterie::bench::Run(values);
  });
}
