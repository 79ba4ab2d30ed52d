#include "common/flags.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Values {
  std::string listen = "127.0.0.1:0";
  std::vector<std::string> serves;
  bool fake = false;
  bool color = true;
  int threads = 0;
  uint64_t bytes = uint64_t{64} << 20;
  double ratio = 0.5;
  absl::Duration grace = absl::Seconds(5);
  std::string mode = "fast";
};

FlagSet Declare(Values* v) {
  FlagSet flags("prog", "Does a thing.");
  flags.String("listen", &v->listen, "HOST:PORT", "where to listen");
  flags.Strings("serves", &v->serves, "PATTERNS", "what to serve");
  flags.Bool("fake", &v->fake, "no arithmetic");
  flags.Bool("color", &v->color, "paint");
  flags.Section("Limits");
  flags.Int("threads", &v->threads, 0, 64, "N", "threads");
  flags.Bytes("kv-bytes", &v->bytes, 1024, uint64_t{1} << 40, "room for KV");
  flags.Double("ratio", &v->ratio, 0, 1, "R", "a ratio");
  flags.Duration("grace", &v->grace, absl::ZeroDuration(), absl::Minutes(10), "patience");
  flags.Choice("mode", &v->mode, {"exact", "fast"}, "numerics");
  return flags;
}

Status ParseInto(Values* v, std::vector<std::string> args) { return Declare(v).Parse(args); }

TEST(FlagsTest, BothWaysOfWritingAValueAreTheSame) {
  Values a, b;
  ASSERT_TRUE(ParseInto(&a, {"--listen=0.0.0.0:9", "--threads=7", "--kv-bytes=2G", "--grace=250ms"}).ok());
  ASSERT_TRUE(
      ParseInto(&b, {"--listen", "0.0.0.0:9", "--threads", "7", "--kv-bytes", "2GiB", "--grace", "250ms"})
          .ok());
  for (const Values& v : {a, b}) {
    EXPECT_EQ(v.listen, "0.0.0.0:9");
    EXPECT_EQ(v.threads, 7);
    EXPECT_EQ(v.bytes, uint64_t{2} << 30);
    EXPECT_EQ(v.grace, absl::Milliseconds(250));
  }
}

TEST(FlagsTest, SwitchesTurnOnAndOff) {
  Values v;
  ASSERT_TRUE(ParseInto(&v, {"--fake", "--no-color"}).ok());
  EXPECT_TRUE(v.fake);
  EXPECT_FALSE(v.color);
}

TEST(FlagsTest, ListsAreSplitAndGatheredAndReplaceTheDefault) {
  Values v;
  v.serves = {"default"};
  ASSERT_TRUE(ParseInto(&v, {"--serves", "law-*,med", "--serves=code"}).ok());
  EXPECT_THAT(v.serves, ElementsAre("law-*", "med", "code"));
}

TEST(FlagsTest, ErrorsNameTheFlagTheValueAndTheLimit) {
  Values v;
  EXPECT_THAT(std::string(ParseInto(&v, {"--threads=65"}).message()),
              HasSubstr("--threads=65: must lie between 0 and 64"));
  EXPECT_THAT(std::string(ParseInto(&v, {"--threads=x"}).message()), HasSubstr("not a whole number"));
  EXPECT_THAT(std::string(ParseInto(&v, {"--mode=quick"}).message()), HasSubstr("one of exact, fast"));
  EXPECT_THAT(std::string(ParseInto(&v, {"--kv-bytes=99999999999G"}).message()), HasSubstr("is not a size"));
  EXPECT_THAT(std::string(ParseInto(&v, {"--kv-bytes=12"}).message()), HasSubstr("between 1KiB and 1TiB"));
  EXPECT_THAT(std::string(ParseInto(&v, {"--grace"}).message()), HasSubstr("--grace needs a value"));
  EXPECT_THAT(std::string(ParseInto(&v, {"stray"}).message()), HasSubstr("unexpected argument \"stray\""));
}

TEST(FlagsTest, AnUnknownFlagIsNamedWithItsNearestNeighbour) {
  Values v;
  const Status status = ParseInto(&v, {"--thread=3"});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("unknown flag --thread; did you mean --threads?"));
}

TEST(FlagsTest, ARequiredFlagAndPositionalsAreDemanded) {
  Values v;
  FlagSet flags = Declare(&v);
  flags.Required("mode");
  flags.Positionals("QUESTION...", 1, 9);
  EXPECT_THAT(std::string(flags.Parse(std::vector<std::string>{"hi"}).message()),
              HasSubstr("--mode exact|fast is missing"));
  FlagSet ok = Declare(&v);
  ok.Positionals("QUESTION...", 1, 9);
  ok.Short('t', "threads");
  ASSERT_TRUE(ok.Parse(std::vector<std::string>{"-t", "3", "--", "--not-a-flag", "b"}).ok());
  EXPECT_THAT(ok.positionals(), ElementsAre("--not-a-flag", "b"));
  EXPECT_EQ(v.threads, 3);
  EXPECT_TRUE(ok.was_set("threads"));
  EXPECT_FALSE(ok.was_set("mode"));
}

TEST(FlagsTest, ADefaultThatCannotBeGivenIsNone) {
  double share = 0;
  int port = -1;
  uint64_t bytes = 0;
  absl::Duration step;
  absl::Duration timeout = absl::InfiniteDuration();
  FlagSet flags("prog", "Tries.");
  flags.Double("share", &share, 1e-6, 1, "SHARE", "of the requests");
  flags.Int("port", &port, 1, 65535, "PORT", "where it listens");
  flags.Bytes("room", &bytes, 1, 100, "for answers");
  flags.Duration("step", &step, absl::Milliseconds(1), absl::Seconds(1), "between two looks");
  flags.Duration("timeout", &timeout, absl::ZeroDuration(), absl::InfiniteDuration(), "gives up after it");
  const std::string help = flags.Help();
  for (const char* line :
       {"of the requests (default none)", "where it listens (default none)", "for answers (default none)",
        "between two looks (default none)", "gives up after it (default inf: no limit)"}) {
    EXPECT_THAT(help, HasSubstr(line));
  }
}

TEST(FlagsTest, HelpShowsEveryFlagWithItsDefaultAndWinsOverErrors) {
  Values v;
  FlagSet flags = Declare(&v);
  ASSERT_TRUE(flags.Parse(std::vector<std::string>{"--wrong", "--help"}).ok());
  EXPECT_TRUE(flags.help_requested());
  const std::string help = flags.Help();
  for (const char* text : {"Usage: prog [flags]", "--listen HOST:PORT", "(default 127.0.0.1:0)",
                           "Limits:", "(default 64MiB)", "--mode exact|fast", "(default 5s)"}) {
    EXPECT_THAT(help, HasSubstr(text));
  }
}

}  // namespace
}  // namespace coterie
