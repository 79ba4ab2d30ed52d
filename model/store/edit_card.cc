#include "model/store/edit_card.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/quoted.h"
#include "model/store/staging.h"
#include "model/store/yaml_tree.h"

namespace coterie {

StatusOr<std::string> NextVersion(std::string_view version) {
  const size_t last = version.find_last_not_of("0123456789");
  const size_t begin = last == std::string_view::npos ? 0 : last + 1;
  uint64_t number = 0;
  if (!absl::SimpleAtoi(ToAbsl(version.substr(begin)), &number)) {
    return absl::InvalidArgumentError(
        absl::StrCat("version ", Quoted(version),
                     " ends with no number that could be one higher; say the new "
                     "version"));
  }
  return absl::StrCat(ToAbsl(version.substr(0, begin)), number + 1);
}

namespace {

// Lines [begin, end) of the text, from 1, that a field of the root takes.
struct FieldLines {
  size_t begin = 0;
  size_t end = 0;
};

StatusOr<FieldLines> LinesOf(const YamlValue& root, const std::vector<std::string>& lines,
                             std::string_view key) {
  const YamlValue* value = root.Find(key);
  FieldLines field;
  field.end = lines.size() + 1;
  // A value is on its key's line, and in this form of a card no other field is.
  if (value != nullptr) field.begin = static_cast<size_t>(value->line);
  const bool own_line = value != nullptr && field.begin <= lines.size() &&
                        absl::StartsWith(lines[field.begin - 1], absl::StrCat(ToAbsl(key), ":"));
  if (!own_line) {
    return absl::FailedPreconditionError(
        absl::StrCat(ToAbsl(kCardFile), ": field ", ToAbsl(key),
                     " does not begin a line of its own, so the card cannot be changed; publish a new one"));
  }
  for (const YamlValue& other : root.items) {
    const auto line = static_cast<size_t>(other.line);
    if (line > field.begin) field.end = std::min(field.end, line);
  }
  return field;
}

}  // namespace

StatusOr<std::string> CardWithMembers(std::string_view yaml, std::string_view version,
                                      std::span<const ExpertMember> members) {
  ASSIGN_OR_RETURN(const YamlValue root, ParseYaml(yaml, kCardFile));
  const std::vector<std::string> lines = absl::StrSplit(absl::StripSuffix(ToAbsl(yaml), "\n"), '\n');
  ASSIGN_OR_RETURN(const FieldLines old_version, LinesOf(root, lines, "version"));
  ASSIGN_OR_RETURN(const FieldLines old_members, LinesOf(root, lines, "members"));
  std::string edited;
  for (size_t line = 1; line <= lines.size(); ++line) {
    if (line == old_version.begin) absl::StrAppend(&edited, "version: \"", ToAbsl(version), "\"\n");
    if (line == old_members.begin) {
      edited += "members:\n";
      for (const ExpertMember& member : members) {
        absl::StrAppend(&edited, "  - {expert: ", member.name, "@", member.adapter.ToHex(),
                        ", weight: ", member.weight, "}\n");
      }
    }
    const bool replaced = (line >= old_version.begin && line < old_version.end) ||
                          (line >= old_members.begin && line < old_members.end);
    if (!replaced) absl::StrAppend(&edited, lines[line - 1], "\n");
  }
  return edited;
}

}  // namespace coterie
