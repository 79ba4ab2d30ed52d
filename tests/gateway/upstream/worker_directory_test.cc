#include "gateway/upstream/worker_directory.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(WorkerDirectoryTest, ReadsAList) {
  const auto directory = WorkerDirectory::Parse("b:2, a:1");
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_FALSE(directory->changes());
  EXPECT_THAT(*directory->Resolve(), ElementsAre("a:1", "b:2"));
}

TEST(WorkerDirectoryTest, ResolvesAName) {
  const auto directory = WorkerDirectory::Parse("dns:///localhost:7601");
  ASSERT_TRUE(directory.ok()) << directory.status();
  EXPECT_TRUE(directory->changes());
  const auto addresses = directory->Resolve();
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  EXPECT_THAT(*addresses, ::testing::Contains("127.0.0.1:7601"));
}

TEST(WorkerDirectoryTest, NamesTheNameThatIsUnknown) {
  const auto directory = WorkerDirectory::Parse("dns:///no-such-host.invalid:7601");
  ASSERT_TRUE(directory.ok());
  const auto addresses = directory->Resolve();
  EXPECT_EQ(addresses.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(addresses.status().message()), HasSubstr("no-such-host.invalid"));
}

TEST(WorkerDirectoryTest, NamesTheEntryThatIsMalformed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "--workers names no worker"},
      {"host", "\"host\" is not host:port"},
      {"a:1,b:0", "\"b:0\" is not host:port with a port in [1, 65535]"},
      {"a:1,b:65536", "\"b:65536\" is not host:port"},
      {":80", "\":80\" is not host:port"},
      {"a:1,a:1", "--workers names a:1 twice"},
      {"dns:///name", "\"name\" is not host:port"},
  };
  for (const auto& [text, words] : cases) {
    const auto directory = WorkerDirectory::Parse(text);
    EXPECT_EQ(directory.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(directory.status().message()), HasSubstr(words));
  }
}

}  // namespace
}  // namespace coterie::gateway::testing
