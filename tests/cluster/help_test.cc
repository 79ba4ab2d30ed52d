// Every --help of every program, as a person reads it.
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/wrapped_text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/cluster/process.h"

namespace coterie::cluster {
namespace {

constexpr size_t kColumns = 80;  // of what is no terminal
const std::string kHelpIndent(30, ' ');

const std::vector<std::vector<std::string>>& Programs() {
  static const auto* const programs = new std::vector<std::vector<std::string>>{
      {"coterie-gateway"},
      {"coterie-worker"},
      {"coterie", "up"},
      {"coterie", "ask"},
      {"coterie", "chat"},
      {"coterie", "route"},
      {"coterie", "status"},
      {"coterie", "bench"},
      {"coterie", "experts", "list"},
      {"coterie", "experts", "show"},
      {"coterie", "experts", "publish"},
      {"coterie", "experts", "promote"},
      {"coterie", "experts", "rollback"},
      {"coterie", "experts", "remove"},
  };
  return *programs;
}

std::vector<std::string> HelpLines(std::vector<std::string> command) {
  const std::string binary = command[0];
  command.erase(command.begin());
  command.emplace_back("--help");
  Process process(binary, command);
  std::vector<std::string> lines;
  EXPECT_EQ(process.Wait(), 0) << process.Errors();
  for (std::string text = process.ReadAll(); const absl::string_view line : absl::StrSplit(text, '\n')) {
    lines.emplace_back(line);
  }
  return lines;
}

bool BeginsAFlag(const std::string& line) { return absl::StartsWith(line, "  -"); }

TEST(HelpTest, LinesFitAndNoneIsTorn) {
  std::vector<std::vector<std::string>> commands = Programs();
  commands.push_back({"coterie"});
  commands.push_back({"coterie", "experts"});
  for (const std::vector<std::string>& command : commands) {
    SCOPED_TRACE(absl::StrJoin(command, " "));
    const std::vector<std::string> lines = HelpLines(command);
    ASSERT_GT(lines.size(), 4u);
    for (size_t i = 0; i + 1 < lines.size(); ++i) {
      const std::string& line = lines[i];
      // A long list of choices is not torn, nor is a path.
      const bool one_word = !absl::StrContains(absl::StripAsciiWhitespace(line), " ");
      EXPECT_TRUE(TextColumns(line) <= kColumns || one_word ||
                  (BeginsAFlag(line) && absl::StrContains(line, "|")))
          << line;
      EXPECT_FALSE(absl::EndsWith(line, " ")) << line;
      // The last line of a flag's help is no single short word, where the line before has words to spare.
      const std::string& next = lines[i + 1];
      if (i == 0 || !absl::StartsWith(line, kHelpIndent) || absl::StartsWith(next, kHelpIndent)) continue;
      const std::vector<std::string> before =
          absl::StrSplit(lines[i - 1].substr(std::min(lines[i - 1].size(), kHelpIndent.size())), ' ');
      if (before.size() < 3) continue;
      const absl::string_view text = absl::StripAsciiWhitespace(line);
      EXPECT_TRUE(text.size() >= 12 || absl::StrContains(text, " ")) << lines[i - 1] << "\n" << line;
    }
  }
}

TEST(HelpTest, EveryFlagSaysWhatItIsForAndWhatItIsWithoutBeingGiven) {
  for (const std::vector<std::string>& command : Programs()) {
    SCOPED_TRACE(absl::StrJoin(command, " "));
    const std::vector<std::string> lines = HelpLines(command);
    size_t n_flags = 0;
    for (size_t i = 0; i < lines.size(); ++i) {
      if (!BeginsAFlag(lines[i])) continue;
      ++n_flags;
      std::string all = lines[i];
      for (size_t k = i + 1; k < lines.size() && absl::StartsWith(lines[k], kHelpIndent); ++k) {
        absl::StrAppend(&all, " ", absl::StripAsciiWhitespace(lines[k]));
      }
      SCOPED_TRACE(all);
      EXPECT_GT(all.size(), 34u) << "no word of what it is for";
      const bool says_default = absl::StrContains(all, "(default ") || absl::StrContains(all, "(required)") ||
                                absl::StrContains(all, "empty:") || absl::StrContains(all, "none");
      EXPECT_TRUE(says_default);
      const size_t at = all.find("(default ");
      if (at == std::string::npos) continue;
      const std::string told = all.substr(at + 9, all.find(')', at) - at - 9);
      const std::string value = told.substr(0, told.find(':'));
      // A value that switches something off, or leaves it to the program, says what it means; others are
      // plain quantities.
      const std::string flag = all.substr(2, all.find(' ', 2) - 2);
      const bool is_quantity =
          flag == "--min-margin" || flag == "--priority" || absl::StartsWith(flag, "--fake-");
      if (!is_quantity && (value == "0" || value == "-1" || value == "inf")) {
        EXPECT_TRUE(absl::StrContains(all, absl::StrCat(" ", value, ":")))
            << "what does " << value << " mean?";
      }
      if (absl::StrContains(all, " TIME ")) {
        absl::Duration time;
        EXPECT_TRUE(absl::ParseDuration(value, &time)) << value << " names no unit";
      }
      if (absl::StrContains(all, " BYTES ")) {
        EXPECT_TRUE(value == "0" || absl::EndsWith(value, "B") || value.size() < 4)
            << value << " names no unit";
      }
    }
    EXPECT_GE(n_flags, 4u);
  }
}

}  // namespace
}  // namespace coterie::cluster
