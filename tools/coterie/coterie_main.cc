#include <cstdio>
#include <string>
#include <vector>

#include "common/quoted.h"
#include "tools/coterie/command.h"

namespace coterie::command {
namespace {

constexpr Command kCommands[] = {
    {"up", "start a gateway and workers on this machine", RunUp},
    {"ask", "ask one question, or many at once, and stream the answers", RunAsk},
    {"chat", "talk: questions line by line, with what was said before", RunChat},
    {"route", "show which expert would answer, and why, without asking it", RunRoute},
    {"experts", "list, show, publish and remove experts", RunExperts},
    {"keys", "add, list and revoke API keys", RunKeys},
    {"status", "show the gateway and its workers", RunStatus},
    {"bench", "measure a running cluster", RunBench},
};

void PrintHelp(std::FILE* stream) {
  std::fputs(
      "Usage: coterie COMMAND [FLAGS...]\n\n"
      "Thousands of LoRA experts over one base model; each question finds its expert.\n\nCommands:\n",
      stream);
  for (const Command& command : kCommands) {
    std::fprintf(stream, "  %-8s %s\n", std::string(command.name).c_str(),
                 std::string(command.summary).c_str());
  }
  std::fprintf(
      stream, "\n`coterie COMMAND --help` lists a command's flags.\n\n%s\n",
      WrapText("Exit codes: 0 done; 1 failed; 2 wrong command line; 3 nobody there; 4 refused, and the "
               "same again would be (unknown expert, bad parameter, broken file); 5 busy, full or too "
               "late: try again; 130 interrupted.",
               HelpColumns())
          .c_str());
}

int Main(int argc, char** argv) {
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.empty() || args[0] == "--help" || args[0] == "-h" || args[0] == "help") {
    PrintHelp(args.empty() ? stderr : stdout);
    return args.empty() ? kUsage : kDone;
  }
  for (const Command& command : kCommands) {
    if (command.name == args[0]) return command.run(std::span(args).subspan(1));
  }
  std::fprintf(stderr, "error: unknown command %s\n\n", Quoted(args[0]).c_str());
  PrintHelp(stderr);
  return kUsage;
}

}  // namespace
}  // namespace coterie::command

int main(int argc, char** argv) { return coterie::command::Main(argc, argv); }
