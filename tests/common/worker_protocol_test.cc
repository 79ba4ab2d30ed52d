#include "common/worker_protocol.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(WorkerProtocolTest, AWordIsShortPrintableUtf8) {
  for (const char* fine : {"", "rack 3/host:7601", "arbeiter-\xC3\xA4", R"(a "quoted" \ one)"}) {
    EXPECT_TRUE(CheckWorkerWord(fine).ok()) << fine;
  }
  EXPECT_TRUE(CheckWorkerWord(std::string(kMaxWorkerWordBytes, 'w')).ok());
  const Status long_word = CheckWorkerWord(std::string(kMaxWorkerWordBytes + 1, 'w'));
  EXPECT_EQ(long_word.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(long_word.message()), HasSubstr("has 257 bytes, the limit is 256"));
  // What would forge a line of the log, or hide in one.
  for (const char* unfit : {"a\nb", "a\x1b[2Jb",
                            "a\xE2\x80\xAE"
                            "b",
                            "\xff"}) {
    EXPECT_EQ(CheckWorkerWord(unfit).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(CheckWorkerWord(unfit).message()), HasSubstr("cannot be printed"));
  }
}

TEST(WorkerProtocolTest, PatternsAreFewAndShort) {
  std::vector<std::string> patterns(kMaxServesPatterns, std::string(kMaxServesPatternBytes, '*'));
  EXPECT_TRUE(CheckServes(patterns).ok());
  EXPECT_TRUE(CheckServes({}).ok());
  patterns[7] += '*';
  EXPECT_THAT(std::string(CheckServes(patterns).message()), HasSubstr("has 257 bytes"));
  patterns[7] = "law\n*";
  EXPECT_THAT(std::string(CheckServes(patterns).message()),
              AllOf(HasSubstr("law\\n*"), HasSubstr("printed")));
  patterns[7] = "law-*";
  patterns.push_back("code");
  EXPECT_THAT(std::string(CheckServes(patterns).message()), HasSubstr("1025 patterns, the limit is 1024"));
}

}  // namespace
}  // namespace coterie
