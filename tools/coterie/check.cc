// coterie experts check: all that is wrong with folders, without a cluster.
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/utf8.h"
#include "model/publishing/check_folder.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"

namespace coterie::command {
namespace {

constexpr size_t kMostShown = 50;  // of one folder's problems: a wrong base makes hundreds

void PrintReport(const std::string& folder, const FolderReport& report) {
  const std::string name = Printable(folder);
  std::printf("%s: %s\n", name.c_str(),
              report.problems.empty() ? (report.summary.empty() ? "sound" : Printable(report.summary)).c_str()
                                      : absl::StrCat(report.problems.size(),
                                                     report.problems.size() == 1 ? " problem" : " problems")
                                            .c_str());
  for (size_t i = 0; i < report.problems.size() && i < kMostShown; ++i) {
    std::printf("  wrong: %s\n", Printable(ToStd(report.problems[i].message())).c_str());
  }
  if (report.problems.size() > kMostShown) {
    std::printf("  and %d more\n", static_cast<int>(report.problems.size() - kMostShown));
  }
  for (const std::string& note : report.notes) std::printf("  note: %s\n", Printable(note).c_str());
}

nlohmann::json ReportToJson(const std::string& folder, const FolderReport& report) {
  nlohmann::json json = {{"folder", folder},
                         {"sound", report.problems.empty()},
                         {"summary", report.summary},
                         {"problems", nlohmann::json::array()},
                         {"notes", report.notes}};
  for (const Status& problem : report.problems) {
    json["problems"].push_back(
        {{"code", absl::StatusCodeToString(problem.code())}, {"message", std::string(problem.message())}});
  }
  return json;
}

}  // namespace

int RunCheckExperts(std::span<const std::string> args) {
  std::string base_path;
  bool json = false;
  FlagSet flags(
      "coterie experts check",
      "Says everything that is wrong with folders that are to be published, all at once, and what is "
      "left to do. Needs no cluster. Exit code 4 where something is wrong.");
  flags.Positionals("FOLDER...", 1, 10'000);
  flags.String("base", &base_path, "PATH",
               "the base's folder, config.json or GGUF file: checks the adapter's shapes against it");
  flags.Bool("json", &json, "print JSON, one object for each folder");
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  std::optional<ModelConfig> base;
  if (!base_path.empty()) {
    const StatusOr<ModelConfig> read = ReadBaseShape(base_path);
    if (!read.ok()) return Fail(Annotate(read.status(), "--base"), json);
    base = *read;
  }
  for (const std::string& folder : flags.positionals()) {
    const FolderReport report = CheckFolder(folder, base ? &*base : nullptr);
    if (!report.problems.empty()) exit_code = kRefused;
    if (json) {
      std::printf("%s\n", Dump(ReportToJson(folder, report)).c_str());
    } else {
      PrintReport(folder, report);
    }
    std::fflush(stdout);
  }
  return exit_code;
}

}  // namespace coterie::command
