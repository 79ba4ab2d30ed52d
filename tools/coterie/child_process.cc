#include "tools/coterie/child_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <deque>
#include <fstream>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "common/exit_code.h"
#include "common/file.h"

namespace coterie::command {
namespace {

// Between fork and exec: only calls that are safe there.
[[noreturn]] void BecomeChild(char* const* arguments, int log_fd, pid_t parent) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(1);  // it ended before prctl
  sigset_t none;
  sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  ::dup2(log_fd, STDOUT_FILENO);
  ::dup2(log_fd, STDERR_FILENO);
  ::execv(arguments[0], arguments);
  ::_exit(127);
}

}  // namespace

StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(std::vector<std::string> command,
                                                            std::filesystem::path log) {
  if (::access(command[0].c_str(), X_OK) != 0) return ErrnoStatus(errno, "cannot run", command[0]);
  const int log_fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (log_fd < 0) return ErrnoStatus(errno, "cannot open the log", log);
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) BecomeChild(arguments.data(), log_fd, parent);
  const int error = errno;
  ::close(log_fd);
  if (pid < 0) return ErrnoStatus(error, "cannot start", command[0]);
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, std::move(log)));
}

ChildProcess::~ChildProcess() {
  if (!Ended()) Stop(absl::ZeroDuration());
}

std::optional<std::string> ChildProcess::Ended() {
  if (ended_) return ended_;
  int state = 0;
  if (::waitpid(pid_, &state, WNOHANG) != pid_) return std::nullopt;
  ended_ = WIFSIGNALED(state) ? absl::StrCat("killed by signal ", WTERMSIG(state))
                              : absl::StrCat("exited with status ", WEXITSTATUS(state));
  if (WIFEXITED(state) && WEXITSTATUS(state) == kDeviceLostExitCode) *ended_ += ", since its device was lost";
  return ended_;
}

void ChildProcess::AskToStop() {
  if (!Ended()) ::kill(pid_, SIGTERM);
}

void ChildProcess::Stop(absl::Duration patience) {
  AskToStop();
  const MonotonicTime deadline = MonotonicNow() + patience;
  while (!Ended() && MonotonicNow() < deadline) absl::SleepFor(absl::Milliseconds(20));
  if (Ended()) return;
  ::kill(pid_, SIGKILL);
  while (!Ended()) absl::SleepFor(absl::Milliseconds(5));
}

std::string ChildProcess::LogTail(int lines) const {
  std::ifstream file(log_);
  std::deque<std::string> tail;
  for (std::string line; std::getline(file, line);) {
    tail.push_back("  | " + line);
    if (tail.size() > static_cast<size_t>(lines)) tail.pop_front();
  }
  return absl::StrJoin(tail, "\n");
}

}  // namespace coterie::command
