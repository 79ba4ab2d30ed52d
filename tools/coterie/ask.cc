#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/ask_many.h"
#include "tools/coterie/command.h"
#include "tools/coterie/question.h"

namespace coterie::command {
namespace {

// One question: the route on the error stream, the answer alone on the output.
int AskOne(const Connection& connection, const QuestionOptions& options, absl::Duration timeout,
           const std::string& question) {
  const Terminal terminal(stderr);
  client::Client client(connection.options);
  bool line_open = false;
  const Status status = client.Generate(
      MakeGenerateRequest(options, question), timeout, [&](const v1::GenerateResponse& event) {
        if (connection.json) {
          std::printf("%s\n", Dump(ToJson(event)).c_str());
        } else if (event.has_route()) {
          std::fprintf(stderr, "%s\n", DescribeRoute(event.route(), terminal).c_str());
        } else if (event.has_notice()) {
          std::fprintf(stderr, "%s\n", terminal.Dim("[" + Printable(event.notice().message()) + "]").c_str());
        } else if (event.has_delta() && !event.delta().text().empty()) {
          std::fputs(Printable(event.delta().text()).c_str(), stdout);
          line_open = event.delta().text().back() != '\n';
        }
        std::fflush(stdout);
      });
  if (line_open) std::fputs("\n", stdout);
  std::fflush(stdout);
  return status.ok() ? kDone : Fail(status, connection.json);
}

// One question a line; empty lines and lines that begin with '#' are passed over.
StatusOr<std::vector<std::string>> ReadQuestions(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot open the questions ", path));
  std::vector<std::string> questions;
  for (std::string line; std::getline(file, line);) {
    const absl::string_view text = absl::StripAsciiWhitespace(line);
    if (!text.empty() && text.front() != '#') questions.emplace_back(text);
  }
  if (questions.empty()) return absl::InvalidArgumentError(absl::StrCat("no question in ", path));
  return questions;
}

}  // namespace

int RunAsk(std::span<const std::string> args) {
  Connection connection;
  QuestionOptions options;
  absl::Duration timeout = absl::InfiniteDuration();
  std::string questions_file;
  FlagSet flags("coterie ask", "Asks, and streams the answer. The route goes to the error stream.");
  flags.Positionals("QUESTION...", 0, 10'000);
  flags.String("questions", &questions_file, "FILE",
               "ask every line of this file at once and end with a table");
  flags.Duration("timeout", &timeout, absl::Milliseconds(1), absl::InfiniteDuration(),
                 "give up after this long");
  AddRoutingFlags(&flags, &options);
  AddCollaborationFlags(&flags, &options);
  AddSamplingFlags(&flags, &options);
  AddConstraintFlags(&flags, &options);
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (flags.positionals().empty() == questions_file.empty()) {
    std::fprintf(stderr, "error: give a question, or --questions FILE\n");
    return kUsage;
  }
  if (const Status status = CheckCollaboration(options); !status.ok()) return FailUsage(status);
  if (const Status status = ReadConstraint(&options); !status.ok()) return FailUsage(status);
  connection.options.cancellation = InterruptCancellation();
  if (questions_file.empty()) {
    return AskOne(connection, options, timeout, absl::StrJoin(flags.positionals(), " "));
  }
  StatusOr<std::vector<std::string>> questions = ReadQuestions(questions_file);
  if (!questions.ok()) return Fail(questions.status(), connection.json);
  return AskMany(connection, options, timeout, *questions);
}

}  // namespace coterie::command
