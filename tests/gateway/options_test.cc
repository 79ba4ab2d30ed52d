#include "gateway/options.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Status Read(std::vector<std::string> args, CommandLine* line) {
  FlagSet flags("coterie-gateway", "");
  line->Declare(&flags);
  args.insert(args.begin(), {"--model=m.gguf", "--workers=127.0.0.1:1"});
  RETURN_IF_ERROR(flags.Parse(std::span<const std::string>(args)));
  return line->Finish();
}

TEST(CommandLineTest, ASilenceThatOneLateHeartbeatMakesIsNotTakenForALostWorker) {
  CommandLine line;
  const Status status = Read({"--heartbeat=2s", "--silence-timeout=3s"}, &line);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("--silence-timeout=3s"), HasSubstr("at least 2 times --heartbeat"),
                    HasSubstr("which is 2s")));
  CommandLine patient;
  EXPECT_TRUE(Read({"--heartbeat=2s", "--silence-timeout=4s"}, &patient).ok());
  EXPECT_EQ(patient.gateway.link.silence_timeout, absl::Seconds(4));
}

TEST(CommandLineTest, AnAnswerHasAtMostAsManyExpertsAsAWorkerCombines) {
  CommandLine most, more;
  EXPECT_TRUE(Read({absl::StrCat("--top-k=", kMaxAdaptersPerSequence)}, &most).ok());
  EXPECT_FALSE(Read({absl::StrCat("--top-k=", kMaxAdaptersPerSequence + 1)}, &more).ok());
}

}  // namespace
}  // namespace coterie::gateway::testing
