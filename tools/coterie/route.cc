#include <cstdio>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"
#include "tools/coterie/question.h"

namespace coterie::command {

int RunRoute(std::span<const std::string> args) {
  Connection connection;
  QuestionOptions options;
  FlagSet flags("coterie route", "Shows which expert would answer, and why. Generates nothing.");
  flags.Positionals("QUESTION...", 1, 10'000);
  AddRoutingFlags(&flags, &options);
  AddCollaborationFlags(&flags, &options);
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  if (const Status status = CheckCollaboration(options); !status.ok()) return FailUsage(status);
  connection.options.cancellation = InterruptCancellation();

  client::Client client(connection.options);
  const StatusOr<v1::RouteResponse> response =
      client.Route(MakeRouteRequest(options, absl::StrJoin(flags.positionals(), " ")));
  if (!response.ok()) return Fail(response.status(), connection.json);
  const v1::RouteDecision& route = response->decision();
  if (connection.json) {
    std::printf("%s\n", Dump(ToJson(route)).c_str());
    return kDone;
  }
  std::printf("%s\n", DescribeRoute(route, Terminal(stdout)).c_str());
  std::vector<std::vector<std::string>> rows = {{"candidate", "score"}};
  for (const v1::ExpertScore& candidate : route.candidates()) {
    rows.push_back({candidate.name(), absl::StrFormat("%.3f", candidate.score())});
  }
  if (rows.size() > 1) std::printf("\n%s", FormatTable(rows).c_str());
  std::printf("\nembedding %s, search %s, catalogue generation %s\n",
              FormatSeconds(route.embed_seconds()).c_str(), FormatSeconds(route.search_seconds()).c_str(),
              absl::StrCat(route.catalogue_generation()).c_str());
  return kDone;
}

}  // namespace coterie::command
