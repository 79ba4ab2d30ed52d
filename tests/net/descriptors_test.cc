#include "net/descriptors.h"

#include <fcntl.h>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::net {
namespace {

using ::testing::HasSubstr;

TEST(DescriptorsTest, TheSoftLimitIsRaisedToTheHardOne) {
  const DescriptorLimit limit = RaiseDescriptorLimit();
  EXPECT_EQ(limit.soft, limit.hard);
  EXPECT_LE(limit.soft_before, limit.soft);
  EXPECT_EQ(CurrentDescriptorLimit().soft, limit.hard);
  EXPECT_THAT(limit.ToString(), HasSubstr(std::to_string(limit.hard)));
}

TEST(DescriptorsTest, CountsWhatIsOpen) {
  const int64_t before = CountOpenDescriptors();
  ASSERT_GE(before, 3);
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(CountOpenDescriptors(), before + 1);
  close(fd);
  EXPECT_EQ(CountOpenDescriptors(), before);
}

TEST(DescriptorsTest, ConnectionsLeaveSomeForFilesAndWorkers) {
  EXPECT_EQ(*PlacesForConnections(0, {1024, 1024, 1024}), 768);
  EXPECT_EQ(*PlacesForConnections(0, {1024, 1'048'576, 1'048'576}), 8192);
  EXPECT_EQ(*PlacesForConnections(768, {1024, 1024, 1024}), 768);
  EXPECT_EQ(*PlacesForConnections(20'000, {1024, 65'536, 65'536}), 20'000);
}

TEST(DescriptorsTest, RefusesMoreConnectionsThanFitAndNamesBothNumbers) {
  const auto places = PlacesForConnections(769, {1024, 1024, 1024});
  EXPECT_TRUE(absl::IsInvalidArgument(places.status()));
  for (const char* part : {"--max-connections=769", "1024", "leaves 768", "ulimit"}) {
    EXPECT_THAT(std::string(places.status().message()), HasSubstr(part));
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(PlacesForConnections(0, {64, 64, 64}).status()));
}

}  // namespace
}  // namespace coterie::net
