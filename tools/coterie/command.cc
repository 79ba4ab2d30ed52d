#include "tools/coterie/command.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/quoted.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {

int FailUsage(const Status& status) {
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return kUsage;
}

int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kDone;
    case absl::StatusCode::kUnavailable:
      return kUnreachable;
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kUnauthenticated:
      return kRefused;
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
      return kBusy;
    case absl::StatusCode::kCancelled:
      return kInterrupted;
    default:
      return kFailed;
  }
}

void AddConnectionFlags(FlagSet* flags, Connection* connection) {
  flags->Section("Gateway");
  flags->String("gateway", &connection->options.address, "HOST:PORT", "where questions go");
  flags->String("admin", &connection->options.admin_address, "HOST:PORT", "where experts are published");
  // By name in the environment, which others on the machine cannot read, or in a file: a flag would stand in
  // the list of processes.
  if (const char* key = std::getenv("COTERIE_API_KEY"); key != nullptr) connection->options.api_key = key;
  flags->String("api-key-file", &connection->options.api_key_file, "FILE",
                "holds the API key that is shown to the gateway; without it $COTERIE_API_KEY is");
  flags->Bool("tls", &connection->options.use_tls,
              "speak TLS to the gateway, believing the system's authorities");
  flags->String("tls-ca", &connection->options.tls.peer_ca, "FILE",
                "the same, believing these certificates (PEM) instead");
  flags->String("tls-cert", &connection->options.tls.cert, "FILE",
                "certificate in PEM that is shown to the gateway, where it asks for one");
  flags->String("tls-key", &connection->options.tls.key, "FILE", "its private key");
  flags->Duration("connect-timeout", &connection->options.connect_timeout, absl::Milliseconds(10),
                  absl::Hours(1), "how long to wait for the gateway to be there");
  flags->Bool("json", &connection->json, "machine-readable output, one JSON object a line");
}

bool ParseOrExplain(FlagSet* flags, std::span<const std::string> args, int* exit_code) {
  const Status status = flags->Parse(args);
  if (flags->help_requested()) {
    std::fputs(flags->Help().c_str(), stdout);
    *exit_code = kDone;
    return false;
  }
  if (!status.ok()) {
    std::fprintf(stderr, "error: %s\n", Printable(ToStd(status.message())).c_str());
    *exit_code = kUsage;
    return false;
  }
  return true;
}

int RunOneOf(std::string_view name, std::span<const Command> commands, std::span<const std::string> args) {
  const bool help = !args.empty() && (args[0] == "--help" || args[0] == "-h" || args[0] == "help");
  for (const Command& command : commands) {
    if (!args.empty() && command.name == args[0]) return command.run(args.subspan(1));
  }
  std::FILE* stream = help ? stdout : stderr;
  const std::string own(name);
  if (!help) {
    std::fprintf(stream, "error: %s\n\n",
                 args.empty()
                     ? "which of its commands?"
                     : absl::StrCat("unknown command ", Quoted(absl::StrCat(own, " ", args[0]))).c_str());
  }
  std::fprintf(stream, "Usage: coterie %s COMMAND [FLAGS...]\n\nCommands:\n", own.c_str());
  for (const Command& command : commands) {
    std::fprintf(stream, "  %-8s %s\n", std::string(command.name).c_str(),
                 std::string(command.summary).c_str());
  }
  std::fprintf(stream, "\n`coterie %s COMMAND --help` lists a command's flags.\n", own.c_str());
  return help ? kDone : kUsage;
}

int Fail(const Status& status, bool json) {
  const std::string message = Printable(ToStd(status.message()));
  if (json) {
    const nlohmann::json error = {
        {"error", {{"code", absl::StatusCodeToString(status.code())}, {"message", message}}}};
    std::fprintf(stderr, "%s\n",
                 error.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    const Terminal terminal(stderr);
    std::fprintf(stderr, "%s %s\n", terminal.Red("error:").c_str(), message.c_str());
  }
  return ExitCodeOf(status);
}

int CombineExitCodes(int a, int b) {
  if (a == kInterrupted || b == kInterrupted) return kInterrupted;
  if (a == kDone || a == b) return b;
  return b == kDone ? a : kFailed;
}

client::Cancellation* InterruptCancellation() {
  static client::Cancellation* const cancellation = [] {
    auto* made = new client::Cancellation;  // never freed: the waiting thread uses it until the process ends
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread([made, signals] {
      int signal = 0;
      sigwait(&signals, &signal);
      made->Cancel();
      // A second Ctrl-C ends the process whatever it is doing.
      sigwait(&signals, &signal);
      std::_Exit(kInterrupted);
    }).detach();
    return made;
  }();
  return cancellation;
}

}  // namespace coterie::command
