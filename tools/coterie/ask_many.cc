#include "tools/coterie/ask_many.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <thread>

#include "absl/strings/str_format.h"
#include "tools/coterie/answer_view.h"

namespace coterie::command {
namespace {

constexpr size_t kMaxInFlight = 64;
constexpr size_t kLineColumns = 100;  // an answer's line is shown when it ends, or when it is this long

// What has come of one question so far.
struct Answer {
  std::string question;
  std::string pending;  // text not shown yet
  v1::RouteDecision route;
  v1::Finish finish;
  Status status;
};

// Shows many answers on one screen, whole lines at a time. Thread-safe.
class Screen {
 public:
  Screen(size_t n, bool json) : terminal_(stdout), digits_(n > 9 ? 2 : 1), json_(json) {}

  void Event(size_t index, Answer* answer, const v1::GenerateResponse& event) {
    MutexLock lock(&mutex_);
    if (json_) {
      nlohmann::json line = ToJson(event);
      line["question"] = index;
      std::printf("%s\n", Dump(line).c_str());
    } else if (event.has_route()) {
      Line(index, terminal_.Bold("? ") + Printable(answer->question));
      Line(index, terminal_.Bold("→ ") + DescribeRoute(event.route(), terminal_));
    } else if (event.has_notice()) {
      Line(index, terminal_.Dim("[" + Printable(event.notice().message()) + "]"));
    } else if (event.has_delta()) {
      answer->pending += Printable(event.delta().text());
      ShowWholeLines(index, &answer->pending);
    }
    std::fflush(stdout);
  }

  void End(size_t index, Answer* answer) {
    MutexLock lock(&mutex_);
    if (!answer->pending.empty() && !json_) Line(index, answer->pending);
    answer->pending.clear();
    if (!answer->status.ok()) Fail(answer->status, json_);
  }

 private:
  void Line(size_t index, const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::printf("%s %s\n", terminal_.Tint(index, absl::StrFormat("[%*d]", digits_, index + 1)).c_str(),
                text.c_str());
  }

  // Long lines break at a space.
  void ShowWholeLines(size_t index, std::string* pending) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    while (true) {
      size_t end = pending->find('\n');
      if (end == std::string::npos || end > kLineColumns) {
        if (pending->size() <= kLineColumns) return;
        end = pending->rfind(' ', kLineColumns);
        if (end == std::string::npos || end == 0) return;
      }
      if (end > 0) Line(index, pending->substr(0, end));
      pending->erase(0, end + 1);
    }
  }

  Mutex mutex_;
  const Terminal terminal_;
  const int digits_;
  const bool json_;
};

void PrintTable(const std::vector<Answer>& answers) {
  std::vector<std::vector<std::string>> rows = {
      {"#", "expert", "score", "margin", "worker", "routing", "first token", "tokens", "tokens/s", "end"}};
  for (size_t i = 0; i < answers.size(); ++i) {
    const Answer& a = answers[i];
    const v1::Timings& t = a.finish.timings();
    rows.push_back({absl::StrCat(i + 1), ExpertNames(a.route),
                    a.route.experts().empty() ? "-" : absl::StrFormat("%.2f", a.route.experts(0).score()),
                    absl::StrFormat("%.2f", a.route.margin()), a.finish.worker(),
                    FormatSeconds(a.route.embed_seconds() + a.route.search_seconds()),
                    FormatSeconds(t.first_token_seconds()),
                    absl::StrCat(a.finish.usage().completion_tokens()),
                    absl::StrFormat("%.1f", TokensPerSecond(a.finish)),
                    a.status.ok() ? FinishName(a.finish.reason()) : "failed"});
  }
  std::printf("\n%s", FormatTable(rows).c_str());
}

}  // namespace

int AskMany(const Connection& connection, const QuestionOptions& options, absl::Duration timeout,
            const std::vector<std::string>& questions) {
  client::Client client(connection.options);
  std::vector<Answer> answers(questions.size());
  Screen screen(questions.size(), connection.json);
  std::atomic<size_t> next = 0;
  const auto ask = [&] {
    for (size_t i = next++; i < questions.size(); i = next++) {
      Answer& answer = answers[i];
      answer.question = questions[i];
      answer.status = client.Generate(MakeGenerateRequest(options, questions[i]), timeout,
                                      [&, i](const v1::GenerateResponse& event) {
                                        if (event.has_route()) answer.route = event.route();
                                        if (event.has_finish()) answer.finish = event.finish();
                                        screen.Event(i, &answer, event);
                                      });
      screen.End(i, &answer);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(kMaxInFlight, questions.size()); ++i) threads.emplace_back(ask);
  for (std::thread& thread : threads) thread.join();

  if (!connection.json) PrintTable(answers);
  int exit_code = kDone;
  for (const Answer& answer : answers) exit_code = CombineExitCodes(exit_code, ExitCodeOf(answer.status));
  return exit_code;
}

}  // namespace coterie::command
