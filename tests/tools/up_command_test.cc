// What coterie up says when it cannot start.
#include <filesystem>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

class UpCommandTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "embedder");
    std::ofstream(folder_ / "model.gguf") << "not a model";
  }

  // Everything below this test's folder, unless `more` says otherwise: of a flag given twice the last one
  // counts.
  CommandOutcome Up(const std::vector<std::string>& more) {
    std::vector<std::string> args = {"up"};
    const std::vector<std::pair<std::string, std::string>> own = {
        {"--model=", (folder_ / "model.gguf").string()},
        {"--embedder=", (folder_ / "embedder").string()},
        {"--store=", (folder_ / "store").string()},
        {"--log-dir=", (folder_ / "log").string()}};
    for (const auto& [flag, value] : own) {
      bool given = false;
      for (const std::string& arg : more) given |= arg.starts_with(flag);
      if (!given) args.push_back(flag + value);
    }
    args.insert(args.end(), more.begin(), more.end());
    return RunCommand(args);
  }

  std::filesystem::path folder_;
};

TEST_F(UpCommandTest, AMissingModelIsNamedWithTheWayToGetIt) {
  const CommandOutcome outcome = Up({"--model=/nonexistent/base.gguf"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("/nonexistent/base.gguf is missing; fetch it with tools/fetch-models"));
  EXPECT_THAT(Up({"--embedder=/nonexistent/encoder"}).err,
              HasSubstr("the embedder /nonexistent/encoder is missing"));
}

TEST_F(UpCommandTest, AMissingRoutingFileIsNamed) {
  EXPECT_THAT(Up({"--rules=/nonexistent/rules.yaml"}).err,
              HasSubstr("the routing file /nonexistent/rules.yaml is missing"));
  EXPECT_THAT(Up({"--classifier=/nonexistent/weights"}).err,
              HasSubstr("the routing file /nonexistent/weights is missing"));
  EXPECT_THAT(Up({"--policy=best"}).err, HasSubstr("best"));
}

TEST_F(UpCommandTest, ATakenPortIsNamedBeforeAnythingStarts) {
  FakeGateway other;
  const CommandOutcome outcome = Up({"--listen=" + other.address()});
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err,
              HasSubstr("cannot listen on " + other.address() + " for the gateway: the port is taken"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "log"));
}

TEST_F(UpCommandTest, AnAddressWithoutAPortIsRefused) {
  EXPECT_THAT(Up({"--listen=localhost"}).err, HasSubstr("has no :PORT"));
}

}  // namespace
}  // namespace coterie
