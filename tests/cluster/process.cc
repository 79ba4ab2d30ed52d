#include "tests/cluster/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/check.h"
#include "common/clock.h"
#include "gtest/gtest.h"

namespace coterie::cluster {

Process::Process(const std::string& binary, const std::vector<std::string>& args,
                 const Surroundings& surroundings)
    : name_(binary) {
  std::vector<std::string> words = {absl::StrCat(COTERIE_BINARY_DIR, "/", binary)};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  // Made before the fork: a child of a process with threads may not allocate.
  std::vector<std::string> added = surroundings.environment;
  std::vector<char*> envp;
  for (std::string& variable : added) envp.push_back(variable.data());
  for (char** variable = environ; *variable != nullptr; ++variable) envp.push_back(*variable);
  envp.push_back(nullptr);

  int out[2];
  COTERIE_CHECK(pipe2(out, O_CLOEXEC) == 0) << "no pipe";
  err_ = memfd_create("stderr", MFD_CLOEXEC);
  COTERIE_CHECK(err_ >= 0) << "no file for the standard error";
  const pid_t parent = getpid();
  pid_ = fork();
  COTERIE_CHECK(pid_ >= 0) << "no process";
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    if (surroundings.hard_descriptors > 0) {
      const rlimit limit{surroundings.soft_descriptors, surroundings.hard_descriptors};
      if (setrlimit(RLIMIT_NOFILE, &limit) != 0) _exit(125);
    }
    dup2(out[1], STDOUT_FILENO);
    dup2(err_, STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  close(out[1]);
  out_ = out[0];
}

Process::~Process() {
  Kill();
  close(out_);
  close(err_);
}

std::string Process::ReadLine(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  for (;;) {
    if (const size_t end = unread_.find('\n'); end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return line;
    }
    pollfd ready = {out_, POLLIN, 0};
    const auto left = absl::ToInt64Milliseconds(until - MonotonicNow());
    char buffer[1024];
    ssize_t n = 0;
    if (left <= 0 || poll(&ready, 1, static_cast<int>(left)) <= 0 ||
        (n = read(out_, buffer, sizeof(buffer))) <= 0) {
      ADD_FAILURE() << name_ << " printed no line within " << timeout << "; it says: " << Errors();
      return "";
    }
    unread_.append(buffer, static_cast<size_t>(n));
  }
}

std::string Process::ReadAll() {
  char buffer[4096];
  for (ssize_t n = 0; (n = read(out_, buffer, sizeof(buffer))) > 0;)
    unread_.append(buffer, static_cast<size_t>(n));
  return std::exchange(unread_, "");
}

std::string Process::Errors() const {
  std::string text;
  char buffer[4096];
  ssize_t n = 0;
  while ((n = pread(err_, buffer, sizeof(buffer), static_cast<off_t>(text.size()))) > 0) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

void Process::Signal(int signal) {
  if (exit_code_ < 0) kill(pid_, signal);
}

void Process::Kill() {
  Signal(SIGKILL);
  Wait();
}

int Process::Wait(absl::Duration timeout) {
  const MonotonicTime until = MonotonicNow() + timeout;
  while (exit_code_ < 0) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else if (MonotonicNow() > until) {
      return -1;
    } else {
      absl::SleepFor(absl::Milliseconds(2));
    }
  }
  return exit_code_;
}

size_t Process::ResidentBytes() const {
  std::ifstream status(absl::StrCat("/proc/", pid_, "/status"));
  std::string key;
  while (status >> key) {
    size_t kib = 0;
    if (key == "VmRSS:" && status >> kib) return kib << 10;
  }
  ADD_FAILURE() << name_ << " has no VmRSS in /proc";
  return 0;
}

absl::Duration Process::CpuTime() const {
  std::ifstream file(absl::StrCat("/proc/", pid_, "/stat"));
  std::string stat((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The name in brackets may hold anything; after it come the state and, twelfth and thirteenth, the two
  // times.
  std::istringstream fields(stat.substr(stat.rfind(')') + 1));
  std::string skipped;
  for (int i = 0; i < 12; ++i) fields >> skipped;
  int64_t user = 0, kernel = 0;
  fields >> user >> kernel;
  return absl::Seconds(static_cast<double>(user + kernel) / static_cast<double>(sysconf(_SC_CLK_TCK)));
}

}  // namespace coterie::cluster
