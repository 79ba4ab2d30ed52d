#include "common/ids.h"

#include <algorithm>

#include "common/quoted.h"

namespace coterie {
namespace {

bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

bool IsHexDigit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

}  // namespace

Status ValidateExpertName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("expert name is empty");
  if (name.size() > kMaxExpertNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("expert name ", Quoted(name), " has ", name.size(),
                                                   " characters, the limit is ", kMaxExpertNameBytes));
  }
  if (!std::all_of(name.begin(), name.end(), IsNameCharacter)) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert name ", Quoted(name), " may hold only a-z, 0-9, '.', '_' and '-'"));
  }
  if (name[0] == '.' || name[0] == '_' || name[0] == '-') {
    return absl::InvalidArgumentError(
        absl::StrCat("expert name ", Quoted(name), " must begin with a letter or a digit"));
  }
  if (name == "auto" || name == "base") {
    return absl::InvalidArgumentError(absl::StrCat("expert name ", Quoted(name), " is reserved"));
  }
  return absl::OkStatus();
}

StatusOr<ExpertSelector> ParseExpertSelector(std::string_view text) {
  if (text.empty() || text == "auto") return ExpertSelector{};
  if (text == "base") return ExpertSelector{.kind = ExpertSelector::Kind::kBase};
  const size_t at = text.find('@');
  const std::string_view name = text.substr(0, at);
  RETURN_IF_ERROR(ValidateExpertName(name));
  ExpertSelector selector{.kind = ExpertSelector::Kind::kNamed, .name = std::string(name)};
  if (at == std::string_view::npos) return selector;
  const std::string_view digest = text.substr(at + 1);
  if (digest.size() < kMinDigestPrefixDigits || digest.size() > 2 * Digest::kBytes ||
      !std::all_of(digest.begin(), digest.end(), IsHexDigit)) {
    return absl::InvalidArgumentError(absl::StrCat("expert ", Quoted(text), ": the digest after '@' must be ",
                                                   kMinDigestPrefixDigits, " to ", 2 * Digest::kBytes,
                                                   " lower-case hexadecimal digits"));
  }
  selector.digest_prefix = std::string(digest);
  return selector;
}

std::string ToString(const ExpertSelector& selector) {
  switch (selector.kind) {
    case ExpertSelector::Kind::kAuto:
      return "auto";
    case ExpertSelector::Kind::kBase:
      return "base";
    case ExpertSelector::Kind::kMembers:
      return "several experts";
    case ExpertSelector::Kind::kNamed:
      break;
  }
  return selector.digest_prefix.empty() ? selector.name : selector.name + "@" + selector.digest_prefix;
}

}  // namespace coterie
