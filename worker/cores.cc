#include "worker/cores.h"

#include <sched.h>

#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/cores.h"
#include "common/quoted.h"

namespace coterie::worker {

StatusOr<std::vector<int>> ParseCores(std::string_view list) {
  std::set<int> cores;
  for (absl::string_view part : absl::StrSplit(ToAbsl(list), ',')) {
    const std::pair<absl::string_view, absl::string_view> range =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    int first = -1;
    int last = -1;
    const bool single = part.find('-') == absl::string_view::npos;
    if (!absl::SimpleAtoi(range.first, &first) ||
        !absl::SimpleAtoi(single ? range.first : range.second, &last) || first < 0 || last < first ||
        last >= CPU_SETSIZE) {
      return absl::InvalidArgumentError(absl::StrCat("--cores: ", Quoted(ToStd(part)),
                                                     " is not a core or a range such as 0-3 (below ",
                                                     CPU_SETSIZE, ")"));
    }
    for (int core = first; core <= last; ++core) cores.insert(core);
  }
  return std::vector<int>(cores.begin(), cores.end());
}

Status PinToCores(const std::vector<int>& cores) {
  cpu_set_t wanted;
  CPU_ZERO(&wanted);
  for (int core : cores) CPU_SET(core, &wanted);
  if (sched_setaffinity(0, sizeof(wanted), &wanted) == 0) return absl::OkStatus();
  const int error = errno;
  return absl::InvalidArgumentError(
      absl::StrCat("--cores=", absl::StrJoin(cores, ","), ": ", std::generic_category().message(error),
                   "; this process may use ", absl::StrJoin(AllowedCores(), ",")));
}

}  // namespace coterie::worker
