#include "worker/cores.h"

#include <sched.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "absl/strings/str_join.h"
#include "common/cores.h"

namespace coterie::worker {

StatusOr<std::vector<int>> ParseCores(std::string_view list) {
  StatusOr<std::vector<int>> cores = ParseCoreList(list);
  if (!cores.ok()) return Annotate(cores.status(), "--cores");
  return cores;
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
