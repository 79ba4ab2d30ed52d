#include "kernels/comm/loss.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/quoted.h"
#include "kernels/comm/driver_calls.h"

namespace coterie {
namespace {

constexpr char kLostMemberType[] = "coterie/lost-member";

}  // namespace

Status Loss::ToStatus() const {
  Status status(code, reason);
  if (rank >= 0) status.SetPayload(kLostMemberType, absl::Cord(absl::StrCat(rank)));
  return status;
}

std::optional<int> LostMember(const Status& status) {
  const auto payload = status.GetPayload(kLostMemberType);
  int rank = -1;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &rank)) return std::nullopt;
  return rank;
}

std::string Loss::Encode() const {
  size_t n = std::min(reason.size(), kMaxBytes - 32);
  while (n > 0 && n < reason.size() && (reason[n] & 0xc0) == 0x80) --n;  // no half of a character
  return absl::StrCat(static_cast<int>(code), "\n", rank, "\n", reason.substr(0, n));
}

Loss Loss::Parse(std::string_view text) {
  const std::vector<std::string> fields = absl::StrSplit(ToAbsl(text), absl::MaxSplits('\n', 2));
  int code = 0;
  Loss loss;
  if (fields.size() != 3 || !absl::SimpleAtoi(fields[0], &code) || code <= 0 || code > 16 ||
      !absl::SimpleAtoi(fields[1], &loss.rank)) {
    return {absl::StatusCode::kUnavailable, -1, "left with a farewell that is not readable"};
  }
  loss.code = static_cast<absl::StatusCode>(code);
  loss.reason = Shown(fields[2], kMaxBytes);
  return loss;
}

std::string MemberName(int rank, const std::vector<std::string>& members) {
  if (rank < 0 || rank >= static_cast<int>(members.size())) return absl::StrCat("member ", rank);
  return absl::StrCat("member ", rank, " ", Quoted(members[static_cast<size_t>(rank)], 48));
}

Loss LossFromFarewell(const Loss& farewell, int peer, int self, const std::vector<std::string>& members) {
  const std::string teller = MemberName(peer, members);
  const bool other = farewell.rank >= 0 && farewell.rank != peer && farewell.rank != self &&
                     farewell.rank < static_cast<int>(members.size());
  if (other) return {farewell.code, farewell.rank, absl::StrCat(farewell.reason, " (told by ", teller, ")")};
  return {absl::StatusCode::kUnavailable, peer, absl::StrCat(teller, " left the group: ", farewell.reason)};
}

Loss LossFromAbort(int rank, const std::vector<std::string>& members) {
  return {absl::StatusCode::kCancelled, rank, absl::StrCat("aborted by ", MemberName(rank, members))};
}

Loss LossFromDevice(int error, int rank, const std::vector<std::string>& members) {
  const std::string device = absl::StrCat("the device of ", MemberName(rank, members));
  if (error == kDriverOutOfMemory) {
    return {absl::StatusCode::kResourceExhausted, rank,
            absl::StrCat(device, " is out of memory (CUDA error ", error, ")")};
  }
  return {absl::StatusCode::kUnavailable, rank, absl::StrCat(device, " failed with CUDA error ", error)};
}

Loss LossFromSilence(const std::vector<int>& silent, absl::Duration waited,
                     const std::vector<std::string>& members) {
  std::string names;
  for (int rank : silent) absl::StrAppend(&names, names.empty() ? "" : ", ", MemberName(rank, members));
  return {absl::StatusCode::kDeadlineExceeded, silent.front(),
          absl::StrCat(names, " did not answer within ", absl::FormatDuration(waited))};
}

}  // namespace coterie
