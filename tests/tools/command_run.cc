#include "tests/tools/command_run.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/time/time.h"
#include "common/clock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

CommandOutcome Run(const std::vector<std::string>& args, const std::string& input, bool keep_input_open,
                   const std::string& interrupt_at) {
  std::vector<std::string> words = {COTERIE_BINARY_DIR "/coterie"};
  words.insert(words.end(), args.begin(), args.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "no pipes";
    return {-1, "", ""};
  }
  const pid_t child = fork();
  if (child == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  EXPECT_EQ(write(in[1], input.data(), input.size()), static_cast<ssize_t>(input.size()));
  if (!keep_input_open) close(in[1]);

  CommandOutcome outcome{-1, "", ""};
  const MonotonicTime deadline = MonotonicNow() + absl::Seconds(30);
  pollfd ends[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* texts[2] = {&outcome.out, &outcome.err};
  bool interrupted = interrupt_at.empty();
  while ((ends[0].fd >= 0 || ends[1].fd >= 0) && MonotonicNow() < deadline) {
    poll(ends, 2, 100);
    for (int i = 0; i < 2; ++i) {
      if (ends[i].fd < 0 || ends[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t n = read(ends[i].fd, buffer, sizeof(buffer));
      if (n > 0) texts[i]->append(buffer, static_cast<size_t>(n));
      if (n <= 0) ends[i].fd = -1;
    }
    if (!interrupted && outcome.out.find(interrupt_at) != std::string::npos) {
      kill(child, SIGINT);
      interrupted = true;
    }
  }
  if (MonotonicNow() >= deadline) {
    ADD_FAILURE() << "the command did not end; output so far: " << outcome.out << outcome.err;
    kill(child, SIGKILL);
  }
  if (keep_input_open) close(in[1]);
  close(out[0]);
  close(err[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  return outcome;
}

}  // namespace

CommandOutcome RunCommand(const std::vector<std::string>& args, const std::string& input) {
  return Run(args, input, false, "");
}

CommandOutcome RunAndInterrupt(const std::vector<std::string>& args, const std::string& input,
                               const std::string& needle) {
  return Run(args, input, true, needle);
}

}  // namespace coterie
