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

// A plain PEFT folder, the one that real PEFT wrote for the tests of adapters.
std::string PlainPeft(const std::string& name) {
  const auto folder = std::filesystem::path(testing::TempDir()) /
                      testing::UnitTest::GetInstance()->current_test_info()->name() / name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder.parent_path());
  std::filesystem::copy(std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/data/tiny-adapters/llama-qv",
                        folder);
  return folder.string();
}

std::string WriteText(const std::string& name, const std::string& text) {
  const auto file = std::filesystem::path(testing::TempDir()) / name;
  std::ofstream(file) << text;
  return file.string();
}

TEST_F(ExpertsCommandTest, APlainPeftFolderIsPublishedWithOneLine) {
  const std::string folder = PlainPeft("Ants");
  const std::string questions = WriteText("ants.txt",
                                          "a one\na two\na three\na four\na five\na six\na seven\n"
                                          "a eight\na nine\na ten\n");
  const std::vector<std::string> line = {"publish",
                                         folder,
                                         "--description",
                                         "about ants",
                                         "--examples",
                                         questions,
                                         "--gateway=" + gateway_.address()};
  std::vector<std::string> dry = line;
  dry.emplace_back("--dry-run");
  const CommandOutcome tried = Experts(dry);
  EXPECT_EQ(tried.exit_code, 0) << tried.err;
  EXPECT_THAT(tried.out, HasSubstr("10 of 10 examples (100 %) would reach ants"));
  EXPECT_THAT(tried.out, HasSubstr("nearest rival bees, 0.36"));
  EXPECT_THAT(tried.out, HasSubstr("dry run"));
  EXPECT_THAT(tried.err, HasSubstr("this gateway is older")) << "it knows no Check";
  EXPECT_EQ(gateway_.published().size(), 0u);

  const CommandOutcome published = Experts(line);
  EXPECT_EQ(published.exit_code, 0) << published.err;
  EXPECT_THAT(published.out, HasSubstr("ants@aaaaaaaaaaaa is live"));
  EXPECT_THAT(gateway_.published().at("ants/expert.yaml"), HasSubstr("description: \"about ants\""));
  EXPECT_THAT(gateway_.published().at("ants/prototypes.safetensors"), HasSubstr(std::string(64, 'e')));

  std::vector<std::string> json = dry;
  json.emplace_back("--json");
  const auto object = nlohmann::json::parse(Experts(json).out);
  EXPECT_EQ(object["separation"]["reached"], 10);
  EXPECT_EQ(object["separation"]["nearest_rival"]["name"], "bees");
  EXPECT_EQ(object["separation"]["low"], false);

  const CommandOutcome low = Experts({"publish", folder, "--description=x", "--dry-run", "--examples",
                                      WriteText("bees.txt", "b one\nb two\na three\na four\na five\na six\n"),
                                      "--gateway=" + gateway_.address()});
  EXPECT_EQ(low.exit_code, 0);
  EXPECT_THAT(low.err, HasSubstr("warning: only 67 % of the examples would reach it"));
  EXPECT_THAT(low.err, HasSubstr("2 to bees"));
}

TEST_F(ExpertsCommandTest, PublishingAPlainFolderWithoutItsWordsSaysTheOneLine) {
  const std::string folder = PlainPeft("ants");
  const CommandOutcome bare = Experts({"publish", folder});
  EXPECT_EQ(bare.exit_code, 4);
  EXPECT_THAT(bare.err, HasSubstr("coterie experts publish " + folder + " --description"));
  const CommandOutcome no_examples = Experts({"publish", folder, "--description=x"});
  EXPECT_EQ(no_examples.exit_code, 4);
  EXPECT_THAT(no_examples.err, HasSubstr("--examples FILE"));
  EXPECT_EQ(Experts({"publish", folder, folder, "--description=x"}).exit_code, 2);
  EXPECT_EQ(Experts({"publish", folder, "--examples=a", "--documents=b"}).exit_code, 2);
  const CommandOutcome absent =
      Experts({"publish", folder, "--description=x", "--examples=/nonexistent/questions.txt"});
  EXPECT_EQ(absent.exit_code, 4);
  EXPECT_THAT(absent.err, HasSubstr("/nonexistent/questions.txt"));
}

TEST(ExpertsCommandAloneTest, CheckSaysEverythingThatIsWrongWithFoldersWithoutACluster) {
  const std::string good = PlainPeft("good");
  const std::string bad = PlainPeft("bad");
  std::filesystem::rename(bad + "/adapter_model.safetensors", bad + "/adapter_model.bin");
  std::ofstream(bad + "/adapter_config.json") << "{\"r\": 0, \"use_dora\": true}";
  const CommandOutcome sound = RunCommand({"experts", "check", good});
  EXPECT_EQ(sound.exit_code, 0) << sound.err;
  EXPECT_THAT(sound.out, HasSubstr("LoRA of rank 4"));
  const CommandOutcome both = RunCommand({"experts", "check", good, bad});
  EXPECT_EQ(both.exit_code, 4);
  for (const char* words : {"4 problems", "use_dora", "\"r\"", "target_modules", "python3 -c"}) {
    EXPECT_THAT(both.out, HasSubstr(words));
  }
  const CommandOutcome json = RunCommand({"experts", "check", bad, "--json"});
  EXPECT_EQ(json.exit_code, 4);
  EXPECT_EQ(nlohmann::json::parse(json.out)["problems"].size(), 4u);
  const std::string base = std::string(COTERIE_SOURCE_DIR) + "/tests/data/tiny-";
  EXPECT_EQ(RunCommand({"experts", "check", good, "--base", base + "llama"}).exit_code, 0);
  EXPECT_EQ(RunCommand({"experts", "check", good, "--base", base + "llama.gguf"}).exit_code, 0);
  const CommandOutcome other = RunCommand({"experts", "check", good, "--base", base + "qwen2"});
  EXPECT_EQ(other.exit_code, 4) << other.out;
  const CommandOutcome nowhere = RunCommand({"experts", "check", good, "--base=/nonexistent"});
  EXPECT_NE(nowhere.exit_code, 0);
  EXPECT_THAT(nowhere.err, HasSubstr("--base: "));
}

TEST(ExpertsCommandAloneTest, NobodyThereIsItsOwnExitCode) {
  const CommandOutcome outcome =
      RunCommand({"experts", "list", "--admin=127.0.0.1:1", "--connect-timeout=100ms"});
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_THAT(outcome.err, HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace coterie
