#ifndef COTERIE_TESTS_CLUSTER_PROCESS_H_
#define COTERIE_TESTS_CLUSTER_PROCESS_H_

#include <sys/resource.h>
#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/time/time.h"

namespace coterie::cluster {

// One of our binaries as a child process, started by its name. Its standard error goes to a file without a
// name, so that nothing it says can block it. Killed and reaped on destruction; the kernel also kills it when
// the thread that started it ends, so start it on the thread of the test. Not thread-safe.
class Process {
 public:
  struct Surroundings {
    std::vector<std::string> environment;  // "NAME=value", added to ours
    // Soft and hard limit of descriptors; 0: ours.
    rlim_t soft_descriptors = 0;
    rlim_t hard_descriptors = 0;
  };
  Process(const std::string& binary, const std::vector<std::string>& args, const Surroundings& surroundings);
  Process(const std::string& binary, const std::vector<std::string>& args) : Process(binary, args, {}) {}
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  // The next line of standard output, without its end. Fails the test and returns "" when the output ends or
  // `timeout` passes first; the failure shows what the process said.
  std::string ReadLine(absl::Duration timeout = absl::Seconds(60));
  // The rest of standard output, to its end: of a process that ends by itself.
  std::string ReadAll();
  // What it has written to standard error so far.
  std::string Errors() const;
  void Signal(int signal);
  // SIGKILL; returns when the process is gone.
  void Kill();
  // Its exit code (128 + signal when a signal ended it), or -1 when it is still there after `timeout`.
  int Wait(absl::Duration timeout = absl::Seconds(60));
  // Resident memory, of /proc/PID/status.
  size_t ResidentBytes() const;
  // Of all its threads so far, of /proc/PID/stat.
  absl::Duration CpuTime() const;

 private:
  const std::string name_;
  pid_t pid_ = -1;
  int out_ = -1;
  int err_ = -1;
  std::string unread_;
  int exit_code_ = -1;
};

}  // namespace coterie::cluster

#endif  // COTERIE_TESTS_CLUSTER_PROCESS_H_
