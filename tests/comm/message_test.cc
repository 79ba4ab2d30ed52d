#include "kernels/comm/message.h"

#include "kernels/comm/communicator.h"
#include "kernels/comm/member_card.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

const std::vector<std::string> kMembers = {"a", "b", "c"};

TEST(CommMessageTest, AHeaderOfAnotherGroupEpochVersionOrCallIsRefusedByName) {
  MessageHeader mine;
  mine.version = kCommVersion;
  mine.from = 1;
  mine.group = GroupHash("g", kMembers);
  mine.epoch = 7;
  mine.count = 5;
  mine.call = 1;
  EXPECT_FALSE(CheckHeader(mine, mine, 1, kMembers));
  const auto refused = [&](auto change) {
    MessageHeader theirs = mine;
    change(theirs);
    const std::optional<Loss> loss = CheckHeader(mine, theirs, 1, kMembers);
    EXPECT_TRUE(loss.has_value());
    if (!loss) return std::string();
    EXPECT_EQ(loss->rank, 1);
    EXPECT_THAT(loss->reason, HasSubstr("member 1 \"b\""));
    return loss->reason;
  };
  EXPECT_THAT(refused([](MessageHeader& h) { h.magic = 1; }), HasSubstr("no message of ours"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.version = 9; }), HasSubstr("version 9, not 1"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.group = GroupHash("h", kMembers); }),
              HasSubstr("another group"));
  EXPECT_THAT(refused([](MessageHeader& h) {
                h.group = GroupHash("g", {"a", "b"});
              }),
              HasSubstr("another group"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.epoch = 6; }), HasSubstr("epoch 6, not 7"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.from = 2; }), HasSubstr("calls itself member 2"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.count = 6; }), HasSubstr("AllReduce of 6 float32"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.call = 200; }), HasSubstr("unknown call"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.type = 200; }), HasSubstr("unknown type"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.phase = 1; }), HasSubstr("phase 1"));
  EXPECT_THAT(refused([](MessageHeader& h) { h.unused[2] = 1; }), HasSubstr("expected"));
}

TEST(CommMessageTest, AFarewellSaysWhoIsLost) {
  const Loss silence = LossFromSilence({2}, absl::Seconds(2), kMembers);
  const Loss read = Loss::Parse(silence.Encode());
  EXPECT_EQ(read.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(read.rank, 2);
  EXPECT_EQ(LossFromFarewell(read, 0, 1, kMembers).rank, 2);
  EXPECT_THAT(LossFromFarewell(read, 0, 1, kMembers).reason,
              HasSubstr("member 2 \"c\" did not answer within 2s (told by member 0 \"a\")"));
  // The one that is blamed itself learns who gave up on it.
  EXPECT_EQ(LossFromFarewell(read, 0, 2, kMembers).rank, 0);
  Loss long_one{absl::StatusCode::kUnavailable, 1, std::string(5'000, '\xff')};
  EXPECT_LE(long_one.Encode().size(), Loss::kMaxBytes);
  for (const char* wrong : {"", "x", "4\n", "4\nx\ny", "0\n1\nok", "99\n1\ny", "-1\n1\n"}) {
    EXPECT_EQ(Loss::Parse(wrong).rank, -1) << wrong;
    EXPECT_EQ(LossFromFarewell(Loss::Parse(wrong), 1, 0, kMembers).rank, 1);
  }
}

TEST(CommMessageTest, ACardComesBackAsItWasAndOtherTextIsRefused) {
  const MemberCard card{.backend = "gloo",
                        .group = "a\nb",
                        .epoch = 3,
                        .rank = 1,
                        .members = {"", "x y"},
                        .details = std::string("\0\xff\n", 3)};
  const StatusOr<MemberCard> read = MemberCard::Parse(card.Encode());
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->Encode(), card.Encode());
  EXPECT_EQ(read->members, card.members);
  EXPECT_EQ(read->details, card.details);
  EXPECT_EQ(MemberCard::Parse("coterie-comm 12\nwhatever")->version, 12);
  for (const char* wrong : {"", "\n\n", "coterie-comm x", "coterie-comm 1", "coterie-comm 1\n\n\n\n\n\n"}) {
    EXPECT_FALSE(MemberCard::Parse(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace coterie
