#ifndef COTERIE_TOOLS_COTERIE_CHILD_PROCESS_H_
#define COTERIE_TOOLS_COTERIE_CHILD_PROCESS_H_

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/status.h"

namespace coterie::command {

// One process of ours, in its own process group (Ctrl-C reaches it only through us), with its output in a log
// file. It is told to end when we end, however that happens. Not thread-safe.
class ChildProcess {
 public:
  static StatusOr<std::unique_ptr<ChildProcess>> Start(std::vector<std::string> command,
                                                       std::filesystem::path log);
  ~ChildProcess();  // kills what still runs
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // "exited with status 3" or "killed by signal 9", once it has ended.
  std::optional<std::string> Ended();
  // SIGTERM, and SIGKILL after `patience`.
  void Stop(absl::Duration patience);
  // SIGTERM only.
  void AskToStop();
  pid_t pid() const { return pid_; }
  const std::filesystem::path& log() const { return log_; }
  // The end of the log, for error messages; at most `lines`.
  std::string LogTail(int lines) const;

 private:
  ChildProcess(pid_t pid, std::filesystem::path log) : pid_(pid), log_(std::move(log)) {}
  const pid_t pid_;
  const std::filesystem::path log_;
  std::optional<std::string> ended_;
};

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_CHILD_PROCESS_H_
