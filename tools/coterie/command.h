#ifndef COTERIE_TOOLS_COTERIE_COMMAND_H_
#define COTERIE_TOOLS_COTERIE_COMMAND_H_

#include <span>
#include <string>
#include <string_view>

#include "common/flags.h"
#include "common/status.h"
#include "tools/client/client.h"

namespace coterie::command {

// Exit codes, the same for every subcommand; `coterie --help` lists them.
enum ExitCode : int {
  kDone = 0,
  kFailed = 1,       // the server answered with an error
  kUsage = 2,        // the command line
  kUnreachable = 3,  // no gateway, or no worker left
  kRefused = 4,      // not found, not permitted, not acceptable: the same again would be refused again
  kBusy = 5,         // queue or disk full, or deadline passed: try again
  kInterrupted = 130,
};

// `args` without the program's and the subcommand's names.
using Run = int (*)(std::span<const std::string> args);

struct Command {
  std::string_view name;
  std::string_view summary;
  Run run;
};

int RunAsk(std::span<const std::string> args);
int RunRoute(std::span<const std::string> args);
int RunChat(std::span<const std::string> args);
int RunExperts(std::span<const std::string> args);
// Of `coterie experts`.
int RunPublishExperts(std::span<const std::string> args);
int RunCheckExperts(std::span<const std::string> args);
int RunKeys(std::span<const std::string> args);
int RunBench(std::span<const std::string> args);
int RunStatus(std::span<const std::string> args);
int RunUp(std::span<const std::string> args);

// The flags that every subcommand with a gateway has.
struct Connection {
  client::ClientOptions options;
  bool json = false;
};
void AddConnectionFlags(FlagSet* flags, Connection* connection);

// Parses; returns true when the command should go on, else sets *exit_code (help was printed, or an error
// said).
bool ParseOrExplain(FlagSet* flags, std::span<const std::string> args, int* exit_code);

// Runs the one of `commands` that args[0] names, with the rest; without one, or with --help, lists them.
// `name`: of the subcommand that they belong to.
int RunOneOf(std::string_view name, std::span<const Command> commands, std::span<const std::string> args);

// Prints `error: <message>` (or a JSON object with code and message) on the error stream and gives the exit
// code.
int Fail(const Status& status, bool json);

// The same for flags that were understood one by one and make no sense together: gives kUsage.
int FailUsage(const Status& status);

int ExitCodeOf(const Status& status);

// The exit code of a command that did several things: theirs where all that failed did so alike, else
// kFailed; kInterrupted wins over everything.
int CombineExitCodes(int a, int b);

// Cancelled by Ctrl-C. Made before any other thread; lives as long as the process.
client::Cancellation* InterruptCancellation();

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_COMMAND_H_
