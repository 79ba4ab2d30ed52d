#ifndef COTERIE_TESTS_TOOLS_COMMAND_RUN_H_
#define COTERIE_TESTS_TOOLS_COMMAND_RUN_H_

#include <string>
#include <vector>

namespace coterie {

struct CommandOutcome {
  int exit_code;  // -1: ended by a signal
  std::string out;
  std::string err;
};

// Runs the real `coterie` binary; `input` is its standard input. Fails the test when it takes longer than 30
// s.
CommandOutcome RunCommand(const std::vector<std::string>& args, const std::string& input = "");

// Starts it with its input left open, sends SIGINT once `needle` stands on its output, and waits for the end.
CommandOutcome RunAndInterrupt(const std::vector<std::string>& args, const std::string& input,
                               const std::string& needle);

}  // namespace coterie

#endif  // COTERIE_TESTS_TOOLS_COMMAND_RUN_H_
