#include "common/member_list.h"

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/quoted.h"

namespace coterie {

StatusOr<std::vector<RequestedMember>> ParseMemberList(std::string_view text) {
  std::vector<RequestedMember> members;
  for (const absl::string_view part : absl::StrSplit(ToAbsl(text), ',')) {
    const std::vector<absl::string_view> pieces = absl::StrSplit(part, ':');
    RequestedMember& member = members.emplace_back();
    member.expert = std::string(absl::StripAsciiWhitespace(pieces[0]));
    if (pieces.size() == 1) continue;
    float weight = 0;
    if (pieces.size() > 2 || !absl::SimpleAtof(pieces[1], &weight)) {
      return absl::InvalidArgumentError(
          absl::StrCat(Quoted(std::string(part)), " is not NAME or NAME:WEIGHT"));
    }
    member.weight = weight;
  }
  return members;
}

}  // namespace coterie
