// coterie chat: questions line by line, with what was said before.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "absl/strings/strip.h"
#include "common/mutex.h"
#include "common/quoted.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"
#include "tools/coterie/conversation.h"
#include "tools/coterie/question.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {
namespace {

constexpr char kHelp[] =
    "  /expert NAME   who answers from now on: auto, base, a name, or name@digest\n"
    "  /system TEXT   the system message from now on (empty: the model's own)\n"
    "  /new           forget what was said\n"
    "  /help          this\n"
    "  /quit          end (so does Ctrl-D)\n"
    "Ctrl-C stops the answer; at the prompt it ends the chat.\n";

// Ctrl-C stops the answer under way, or ends the process when there is none. Lives as long as the process.
class Interrupts {
 public:
  Interrupts() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread([this, signals] {
      for (;;) {
        int signal = 0;
        if (sigwait(&signals, &signal) == 0) OnInterrupt();
      }
    }).detach();
  }

  // While an answer streams: its cancellation; null: none does.
  void Watch(client::Cancellation* cancellation) {
    MutexLock lock(&mutex_);
    current_ = cancellation;
  }

 private:
  void OnInterrupt() {
    MutexLock lock(&mutex_);
    if (current_ == nullptr || current_->cancelled()) {
      [[maybe_unused]] const auto written = write(STDERR_FILENO, "\n", 1);
      std::_Exit(kInterrupted);
    }
    current_->Cancel();
  }

  Mutex mutex_;
  client::Cancellation* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

class ChatSession {
 public:
  ChatSession(Connection connection, QuestionOptions options)
      : connection_(std::move(connection)),
        options_(std::move(options)),
        interactive_(isatty(STDIN_FILENO) == 1 && !connection_.json),
        terminal_(stderr),
        interrupts_(new Interrupts) {}  // never freed: its thread runs until the process ends

  int Run() {
    if (interactive_) std::fputs("Ask away. /help lists the commands.\n", stderr);
    for (std::string line;;) {
      if (interactive_) std::fputs(terminal_.Bold("> ").c_str(), stderr);
      if (!std::getline(std::cin, line)) break;
      const absl::string_view text = absl::StripAsciiWhitespace(line);
      if (text.empty()) continue;
      if (text == "/quit" || text == "/exit") break;
      if (text.front() == '/') {
        Obey(text);
      } else {
        const int exit_code = Answer(std::string(text));
        // A script hears of the first failure; a person may try again.
        if (exit_code != kDone && !interactive_) return exit_code;
      }
    }
    if (interactive_) std::fputs("\n", stderr);
    return kDone;
  }

 private:
  void Obey(absl::string_view text) {
    const size_t space = text.find(' ');
    const absl::string_view command = text.substr(0, space);
    const std::string rest(space == absl::string_view::npos ? absl::string_view()
                                                            : absl::StripAsciiWhitespace(text.substr(space)));
    if (command == "/expert" && !rest.empty()) {
      options_.expert = rest;
    } else if (command == "/system") {
      options_.system = rest;
    } else if (command == "/new") {
      conversation_.Clear();
    } else {
      if (command != "/help") std::fprintf(stderr, "unknown command %s\n", Quoted(ToStd(text)).c_str());
      std::fputs(kHelp, stderr);
    }
  }

  int Answer(const std::string& question) {
    // A script's questions are to be seen beside their answers; a person has just typed theirs.
    if (!interactive_ && !connection_.json) {
      std::fprintf(stderr, "%s\n", terminal_.Bold("? " + Printable(question)).c_str());
    }
    client::Cancellation cancellation;
    client::ClientOptions client_options = connection_.options;
    client_options.cancellation = &cancellation;
    client::Client client(client_options);  // joins the connection of the last one
    std::string answer;
    interrupts_->Watch(&cancellation);
    const Status status = client.Generate(conversation_.Ask(options_, question), absl::InfiniteDuration(),
                                          [&](const v1::GenerateResponse& event) { Show(event, &answer); });
    interrupts_->Watch(nullptr);
    if (!answer.empty() && answer.back() != '\n' && !connection_.json) std::fputs("\n", stdout);
    std::fflush(stdout);
    if (!answer.empty()) conversation_.Remember(question, answer);
    if (status.ok()) return kDone;
    if (cancellation.cancelled()) {
      std::fprintf(stderr, "%s\n", terminal_.Dim("[stopped]").c_str());
      return kInterrupted;
    }
    const int exit_code = Fail(status, connection_.json);
    if (status.code() == absl::StatusCode::kInvalidArgument && conversation_.n_turns() > 0) {
      std::fputs("The conversation may have grown too long; /new begins another.\n", stderr);
    }
    return exit_code;
  }

  void Show(const v1::GenerateResponse& event, std::string* answer) {
    answer->append(event.delta().text());
    if (connection_.json) {
      std::printf("%s\n", Dump(ToJson(event)).c_str());
    } else if (event.has_route()) {
      std::fprintf(stderr, "%s\n", DescribeRoute(event.route(), terminal_).c_str());
    } else if (event.has_notice()) {
      std::fprintf(stderr, "%s\n", terminal_.Dim("[" + Printable(event.notice().message()) + "]").c_str());
    } else {
      std::fputs(Printable(event.delta().text()).c_str(), stdout);
    }
    std::fflush(stdout);
  }

  const Connection connection_;
  QuestionOptions options_;
  const bool interactive_;
  const Terminal terminal_;
  Interrupts* const interrupts_;
  Conversation conversation_;
};

}  // namespace

int RunChat(std::span<const std::string> args) {
  Connection connection;
  QuestionOptions options;
  FlagSet flags(
      "coterie chat",
      "Talks: reads questions line by line and remembers what was said. Each question finds its own "
      "expert unless --expert names one; a follow-up keeps the one of the question before it. The answers "
      "alone go to the output.");
  AddRoutingFlags(&flags, &options);
  AddSamplingFlags(&flags, &options);
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (options.raw) {
    std::fputs(
        "error: --raw does not go with chat: a conversation needs the chat template; use `coterie ask`\n",
        stderr);
    return kUsage;
  }
  return ChatSession(std::move(connection), std::move(options)).Run();
}

}  // namespace coterie::command
