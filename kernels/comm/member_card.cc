#include "kernels/comm/member_card.h"

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/quoted.h"

namespace coterie {
namespace {

constexpr char kFirstWord[] = "coterie-comm ";

// What of `theirs` does not fit this member; "" when all does.
std::string Misfit(const MemberCard& mine, int rank, const MemberCard& theirs) {
  if (theirs.version != mine.version) {
    return absl::StrCat("speaks version ", theirs.version, " of our protocol and this member version ",
                        mine.version, "; run the same release on both");
  }
  if (theirs.group != mine.group) {
    return absl::StrCat("is of group ", Quoted(theirs.group), ", not ", Quoted(mine.group));
  }
  if (theirs.epoch != mine.epoch) return absl::StrCat("is of epoch ", theirs.epoch, ", not ", mine.epoch);
  if (theirs.rank != rank) return absl::StrCat("says that it is member ", theirs.rank);
  if (theirs.members.size() != mine.members.size()) {
    return absl::StrCat("knows a group of ", theirs.members.size(), " members, not of ", mine.members.size());
  }
  if (theirs.members != mine.members) return "knows a group of other members";
  if (theirs.backend != mine.backend) {
    return absl::StrCat("uses ", Quoted(theirs.backend), ", not ", Quoted(mine.backend));
  }
  return "";
}

}  // namespace

std::string MemberCard::Encode() const {
  std::string names = absl::StrJoin(members, " ", [](std::string* out, const std::string& name) {
    absl::StrAppend(out, "x", absl::BytesToHexString(name));
  });
  return absl::StrCat(kFirstWord, version, "\n", backend, "\n", absl::BytesToHexString(group), "\n", epoch,
                      "\n", rank, "\n", names, "\n", absl::BytesToHexString(details));
}

StatusOr<MemberCard> MemberCard::Parse(std::string_view text) {
  const Status damaged = absl::InvalidArgumentError("has a card that is not readable");
  const std::vector<absl::string_view> lines = absl::StrSplit(ToAbsl(text), '\n');
  MemberCard card;
  absl::string_view version = lines[0];
  if (!absl::ConsumePrefix(&version, kFirstWord) || !absl::SimpleAtoi(version, &card.version)) return damaged;
  if (card.version != kCommVersion) return card;  // the rest may look otherwise there
  if (lines.size() != 7 || !absl::SimpleAtoi(lines[3], &card.epoch) ||
      !absl::SimpleAtoi(lines[4], &card.rank)) {
    return damaged;
  }
  card.backend = std::string(lines[1]);
  card.group = absl::HexStringToBytes(lines[2]);
  for (absl::string_view name : absl::StrSplit(lines[5], ' ', absl::SkipEmpty())) {
    card.members.push_back(absl::HexStringToBytes(name.substr(1)));
  }
  card.details = absl::HexStringToBytes(lines[6]);
  return card;
}

std::string FormingGroup(const CommunicatorOptions& options) {
  return absl::StrCat("forming group ", Quoted(options.group), ", epoch ", options.epoch);
}

StatusOr<std::vector<MemberCard>> MeetMembers(const CommunicatorOptions& options, std::string_view backend,
                                              const std::string& details, Rendezvous* rendezvous,
                                              MonotonicTime deadline) {
  const std::string where = FormingGroup(options);
  const MemberCard mine{.backend = std::string(backend),
                        .group = options.group,
                        .epoch = options.epoch,
                        .rank = options.rank,
                        .members = options.members,
                        .details = details};
  const RendezvousKey key{options.group, options.epoch, options.rank, "card"};
  if (Status published = rendezvous->Publish(key, mine.Encode(), deadline, *options.abort); !published.ok()) {
    return Annotate(published, absl::StrCat(where, ": ", MemberName(options.rank, options.members)));
  }
  std::vector<MemberCard> cards;
  for (int rank = 0; rank < options.size(); ++rank) {
    const std::string who = absl::StrCat(where, ": ", MemberName(rank, options.members));
    StatusOr<std::string> text =
        rendezvous->Await({options.group, options.epoch, rank, "card"}, deadline, *options.abort);
    if (absl::IsDeadlineExceeded(text.status())) {
      return Loss{absl::StatusCode::kDeadlineExceeded, rank,
                  absl::StrCat(who, " did not come within ", absl::FormatDuration(options.form_timeout))}
          .ToStatus();
    }
    if (!text.ok())
      return Annotate(text.status(),
                      absl::StrCat(where, ": waiting for ", MemberName(rank, options.members)));
    StatusOr<MemberCard> card = MemberCard::Parse(*text);
    if (!card.ok()) return absl::FailedPreconditionError(absl::StrCat(who, " ", card.status().message()));
    if (const std::string misfit = Misfit(mine, rank, *card); !misfit.empty()) {
      return Loss{absl::StatusCode::kFailedPrecondition, rank, absl::StrCat(who, " ", misfit)}.ToStatus();
    }
    cards.push_back(*std::move(card));
  }
  return cards;
}

}  // namespace coterie
