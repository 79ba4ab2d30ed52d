#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"
#include "tools/coterie/publish_folders.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class ExpertsCommandTest : public testing::Test {
 protected:
  CommandOutcome Experts(std::vector<std::string> args) {
    args.insert(args.begin(), "experts");
    args.push_back("--admin=" + gateway_.address());
    return RunCommand(args);
  }

  // A folder with the four files; the weights are larger than one chunk.
  std::string MakeFolder(const std::string& name) {
    const auto folder = std::filesystem::path(testing::TempDir()) /
                        testing::UnitTest::GetInstance()->current_test_info()->name() / name;
    // A pipe that another run left here would wait for its reader.
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    for (const char* file : {"adapter_config.json", "prototypes.safetensors"}) {
      std::ofstream(folder / file) << name << file;
    }
    std::ofstream(folder / "expert.yaml") << "name: " << name << "\n";
    std::ofstream(folder / "adapter_model.safetensors") << std::string(1'500'000, 'w');
    return folder.string();
  }

  FakeGateway gateway_;
};

TEST_F(ExpertsCommandTest, PublishesFoldersUnderTheirNamesAndListsThemPageByPage) {
  const CommandOutcome published =
      Experts({"publish", MakeFolder("a") + "/", MakeFolder("b"), MakeFolder("c")});
  EXPECT_EQ(published.exit_code, 0) << published.err;
  EXPECT_THAT(published.out, HasSubstr("c@aaaaaaaaaaaa is live (generation 3)"));
  EXPECT_EQ(gateway_.published().at("a/adapter_model.safetensors"), std::string(1'500'000, 'w'));
  EXPECT_EQ(gateway_.published().at("a/expert.yaml"), "name: a\n");

  const CommandOutcome again = Experts({"publish", MakeFolder("b")});
  EXPECT_THAT(again.out, HasSubstr("was already live"));

  const CommandOutcome listed = Experts({"list"});
  EXPECT_THAT(listed.out, HasSubstr("about c"));
  EXPECT_THAT(listed.out, HasSubstr("3 experts, catalogue generation 7"));
  const CommandOutcome json = Experts({"list", "--json"});
  std::istringstream lines(json.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(nlohmann::json::parse(line)["name"], "a");
}

TEST_F(ExpertsCommandTest, WhatWasPublishedBeforeAStreamBrokeIsToldAsPublished) {
  client::Client client({.address = gateway_.address(), .admin_address = gateway_.address()});
  std::vector<client::ExpertFolder> folders;
  for (const char* name : {"a", "b", "c"}) folders.push_back({"", MakeFolder(name)});
  gateway_.BreakPublishManyAfter(1);
  const auto results = command::PublishFolders(&client, folders, {}, /*max_together=*/2);
  ASSERT_TRUE(results.ok()) << results.status();
  ASSERT_EQ(results->size(), 3u);
  EXPECT_TRUE((*results)[0].ok() && (*results)[1].ok());
  EXPECT_EQ((*results)[2].status(), absl::UnavailableError("the gateway is gone"));
  EXPECT_EQ(command::PublishFolders(&client, folders).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ExpertsCommandTest, ARefusedFolderAmongManyIsNamedAndStopsNoneOfTheOthers) {
  for (const bool old_gateway : {false, true}) {
    if (old_gateway) gateway_.ForgetPublishMany();
    const std::string suffix = old_gateway ? "-old" : "";
    const std::string unreadable = MakeFolder("unreadable" + suffix);
    std::filesystem::remove(std::filesystem::path(unreadable) / "expert.yaml");
    const CommandOutcome outcome = Experts({"publish", MakeFolder("a" + suffix), MakeFolder("bad"),
                                            unreadable, MakeFolder("c" + suffix), MakeFolder("mended")});
    EXPECT_EQ(outcome.exit_code, 4);
    EXPECT_THAT(outcome.out, HasSubstr("a" + suffix + "@aaaaaaaaaaaa is live"));
    EXPECT_THAT(outcome.out, HasSubstr("c" + suffix + "@aaaaaaaaaaaa is live"));
    EXPECT_THAT(outcome.out, HasSubstr("its files in the store were damaged and are whole again"));
    EXPECT_THAT(outcome.err, HasSubstr("bad: use_dora is not supported"));
    EXPECT_THAT(outcome.err, HasSubstr("unreadable" + suffix + " is a plain PEFT adapter"));
    EXPECT_EQ(gateway_.published().at("c" + suffix + "/adapter_model.safetensors"),
              std::string(1'500'000, 'w'));
  }
  EXPECT_EQ(gateway_.publish_many_calls(), 1);  // all of them in one call
}

TEST_F(ExpertsCommandTest, OneUnknownNameStopsNeitherRemovingNorPromotingTheOthers) {
  Experts({"publish", MakeFolder("a"), MakeFolder("b")});
  Experts({"publish", "--canary=0.1", MakeFolder("b")});
  const CommandOutcome promoted = Experts({"promote", "a", "b"});
  EXPECT_EQ(promoted.exit_code, 4);
  EXPECT_THAT(promoted.err, HasSubstr("expert a has no canary to promote"));
  EXPECT_EQ(promoted.out, "promoted b\n");
  const CommandOutcome removed = Experts({"remove", "a", "nobody", "b"});
  EXPECT_EQ(removed.exit_code, 4);
  EXPECT_THAT(removed.err, HasSubstr("no expert is called 'nobody'"));
  EXPECT_THAT(removed.out, HasSubstr("b is removed"));
}

TEST_F(ExpertsCommandTest, APipeInPlaceOfAFileIsRefusedAtOnce) {
  const std::string folder = MakeFolder("a");
  const auto weights = std::filesystem::path(folder) / "adapter_model.safetensors";
  std::filesystem::remove(weights);
  ASSERT_EQ(::mkfifo(weights.c_str(), 0600), 0);
  const CommandOutcome outcome = Experts({"publish", folder});
  EXPECT_NE(outcome.exit_code, 0);
  EXPECT_THAT(outcome.err, HasSubstr("is a pipe or a device, not a file"));
}

TEST_F(ExpertsCommandTest, ShowsTheCardWithoutWhatATerminalWouldActOn) {
  Experts({"publish", "--name=x", MakeFolder("folder")});
  const CommandOutcome shown = Experts({"show", "x"});
  EXPECT_EQ(shown.exit_code, 0);
  EXPECT_THAT(shown.out, HasSubstr("Apache-2.0"));
  EXPECT_THAT(shown.out, HasSubstr("name: x"));
  EXPECT_THAT(shown.out, Not(HasSubstr("\033")));
}

TEST_F(ExpertsCommandTest, ShowsWhatIsKnownOfItsQuestions) {
  Experts({"publish", "--name=x", MakeFolder("folder")});
  const CommandOutcome shown = Experts({"show", "x"});
  EXPECT_THAT(shown.out, HasSubstr("64 prompts: loss per token 3.000, base 3.250; regret 0.125"));
  EXPECT_THAT(shown.out, HasSubstr("canary minus live -0.250"));
  EXPECT_THAT(shown.out,
              HasSubstr("mean score of its questions 0.500 (70 seen), its own texts 0.625 (400 measured)"));
  EXPECT_THAT(shown.out, HasSubstr("expert x: look"));
  const auto json = nlohmann::json::parse(Experts({"show", "x", "--json"}).out);
  EXPECT_EQ(json["shadow"]["regret"], 0.125);
  EXPECT_EQ(json["shadow"].count("runner_up_loss"), 0u);  // no prompt had one
  EXPECT_EQ(json["drift"]["reference"]["n"], 400);
  EXPECT_EQ(json["findings"][0], "expert x: look");
  const CommandOutcome status = RunCommand({"status", "--gateway=" + gateway_.address()});
  EXPECT_THAT(status.out, HasSubstr("expert a: the base does better"));
}

TEST_F(ExpertsCommandTest, ARefusalSaysWhyAndHasItsExitCode) {
  const CommandOutcome bad = Experts({"publish", MakeFolder("bad")});
  EXPECT_EQ(bad.exit_code, 4);
  EXPECT_THAT(bad.err, HasSubstr("bad: use_dora is not supported"));
  const CommandOutcome absent = Experts({"remove", "nobody"});
  EXPECT_EQ(absent.exit_code, 4);
  EXPECT_THAT(absent.err, HasSubstr("no expert is called 'nobody'"));
  const CommandOutcome json = Experts({"show", "nobody", "--json"});
  EXPECT_EQ(nlohmann::json::parse(json.err)["error"]["code"], "NOT_FOUND");
  const CommandOutcome no_folder = Experts({"publish", "/nonexistent/folder"});
  EXPECT_EQ(no_folder.exit_code, 4);
  EXPECT_THAT(no_folder.err, HasSubstr("no folder /nonexistent/folder"));
}

TEST_F(ExpertsCommandTest, ACanaryIsPublishedShownPromotedAndWithdrawn) {
  const std::string folder = MakeFolder("a");
  const CommandOutcome unknown = Experts({"publish", "--canary=0.1", folder});
  EXPECT_EQ(unknown.exit_code, 4);
  EXPECT_THAT(unknown.err, HasSubstr("no expert is called 'a'"));
  Experts({"publish", folder});
  const CommandOutcome published = Experts({"publish", "--canary=0.1", folder});
  EXPECT_EQ(published.exit_code, 0) << published.err;
  EXPECT_THAT(
      published.out,
      HasSubstr(
          "a@bbbbbbbbbbbb is the canary with 10 % of the requests, live is aaaaaaaaaaaa (generation 9)"));
  EXPECT_THAT(Experts({"list"}).out,
              HasSubstr("a has a canary: version 2 (bbbbbbbbbbbb) with 10 % of its requests"));
  EXPECT_EQ(nlohmann::json::parse(Experts({"list", "--json"}).out)["canary"]["share"], 0.1);

  // Nobody who means a share of nothing wants a version that gets everything.
  const CommandOutcome nothing = Experts({"publish", "--canary=0", folder});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("--canary"));

  const CommandOutcome promoted = Experts({"promote", "a"});
  EXPECT_EQ(promoted.exit_code, 0) << promoted.err;
  EXPECT_EQ(promoted.out, "promoted a\n");
  const CommandOutcome again = Experts({"promote", "a"});
  EXPECT_EQ(again.exit_code, 4);
  EXPECT_THAT(again.err, HasSubstr("expert a has no canary to promote"));

  Experts({"publish", "--canary=0.1", folder});
  EXPECT_EQ(Experts({"rollback", "a"}).out, "withdrew the canary of a\n");
  EXPECT_EQ(nlohmann::json::parse(Experts({"rollback", "a", "--json"}).out)["message"], "rolled back to a");
}

TEST_F(ExpertsCommandTest, AWrongCommandLineIsToldApart) {
  EXPECT_EQ(RunCommand({"experts"}).exit_code, 2);
  EXPECT_THAT(RunCommand({"experts", "lst"}).err, HasSubstr("unknown command \"experts lst\""));
  EXPECT_EQ(RunCommand({"experts", "--help"}).exit_code, 0);
  EXPECT_EQ(Experts({"publish", "--name=x", "a", "b"}).exit_code, 2);
  EXPECT_EQ(Experts({"publish", "--canary=1.5", "a"}).exit_code, 2);
  EXPECT_EQ(Experts({"promote"}).exit_code, 2);
}

TEST(ExpertsCommandAloneTest, NobodyThereIsItsOwnExitCode) {
  const CommandOutcome outcome =
      RunCommand({"experts", "list", "--admin=127.0.0.1:1", "--connect-timeout=100ms"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace coterie
