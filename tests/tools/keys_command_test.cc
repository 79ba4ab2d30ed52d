#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>
#include <vector>

#include "common/api_keys.h"
#include "common/file.h"
#include "common/unix_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tools/command_run.h"
#include "tests/tools/fake_gateway.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class KeysCommandTest : public testing::Test {
 protected:
  KeysCommandTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~KeysCommandTest() override { std::filesystem::remove_all(folder_); }

  CommandOutcome Keys(std::vector<std::string> args) {
    args.insert(args.begin(), "keys");
    args.push_back("--file=" + file_);
    return RunCommand(args);
  }
  std::vector<ApiKey> Read() {
    const auto text = ReadFile(file_, 1 << 20);
    const auto keys = ParseApiKeys(text.value_or(""), "keys.json");
    EXPECT_TRUE(keys.ok()) << keys.status();
    return keys.value_or(std::vector<ApiKey>());
  }
  mode_t Mode() {
    struct stat info {};
    EXPECT_EQ(stat(file_.c_str(), &info), 0);
    return info.st_mode & 07777;
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string("keys_") + testing::UnitTest::GetInstance()->current_test_info()->name());
  const std::string file_ = folder_ / "keys.json";
};

TEST_F(KeysCommandTest, AddsAKeyThatIsShownOnce) {
  const CommandOutcome added =
      Keys({"add", "ann", "--tenant=physics", "--experts=law-*,code", "--requests-per-minute=60",
            "--tokens-per-minute=1000", "--concurrent=4", "--max-priority=7", "--expires=2031-01-31"});
  ASSERT_EQ(added.exit_code, 0) << added.err;
  const std::string key = added.out.substr(0, added.out.find('\n'));
  EXPECT_EQ(added.out, key + "\n");
  const std::vector<ApiKey> keys = Read();
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0].digest, HashApiKey(key));
  EXPECT_EQ(keys[0].id, "ann");
  EXPECT_EQ(keys[0].tenant, "physics");
  EXPECT_THAT(*keys[0].experts, testing::ElementsAre("law-*", "code"));
  EXPECT_EQ(keys[0].requests_per_minute, 60u);
  EXPECT_EQ(keys[0].tokens_per_minute, 1000u);
  EXPECT_EQ(keys[0].concurrent_requests, 4u);
  EXPECT_EQ(keys[0].max_priority, 7);
  EXPECT_EQ(FormatUtc(*keys[0].expires_unix), "2031-01-31T00:00:00Z");
  EXPECT_EQ(Mode(), 0600u);
  EXPECT_THAT(*ReadFile(file_, 1 << 20), Not(HasSubstr(key.substr(8))));
  const CommandOutcome listed = Keys({"list"});
  EXPECT_THAT(listed.out, HasSubstr("law-*,code"));
  EXPECT_THAT(listed.out, HasSubstr("physics"));
  EXPECT_THAT(listed.out + listed.err, Not(HasSubstr(key.substr(8))));
}

TEST_F(KeysCommandTest, RevokesAndListsAsJson) {
  EXPECT_EQ(Keys({"add", "ann"}).exit_code, 0);
  EXPECT_EQ(Keys({"add", "bob", "--valid-for=1ms"}).exit_code, 0);
  const CommandOutcome json = Keys({"add", "eve", "--json"});
  EXPECT_EQ(HashApiKey(nlohmann::json::parse(json.out)["key"].get<std::string>()), Read()[2].digest);
  EXPECT_EQ(Keys({"revoke", "ann"}).exit_code, 0);
  EXPECT_TRUE(Read()[0].revoked);
  EXPECT_EQ(Read()[0].tenant, "ann");
  std::istringstream lines(Keys({"list", "--json"}).out);
  std::vector<std::string> states;
  for (std::string line; std::getline(lines, line);) states.push_back(nlohmann::json::parse(line)["state"]);
  EXPECT_THAT(states, testing::ElementsAre("revoked", "expired", "valid"));
  EXPECT_EQ(Mode(), 0600u);
}

TEST_F(KeysCommandTest, WrongUsesChangeNothing) {
  EXPECT_EQ(Keys({"add", "ann"}).exit_code, 0);
  const auto before = ReadFile(file_, 1 << 20);
  EXPECT_THAT(Keys({"add", "ann"}).err, HasSubstr("there is a key \"ann\" already"));
  EXPECT_EQ(Keys({"revoke", "ann", "nobody"}).exit_code, 4);
  EXPECT_EQ(Keys({"add", "a b"}).exit_code, 2);
  EXPECT_EQ(Keys({"add", "bob", "--experts=LAW"}).exit_code, 2);
  EXPECT_EQ(Keys({"add", "bob", "--expires=soon"}).exit_code, 2);
  EXPECT_EQ(Keys({"add"}).exit_code, 2);
  EXPECT_EQ(RunCommand({"keys", "list"}).exit_code, 2);
  EXPECT_EQ(*ReadFile(file_, 1 << 20), *before);
  std::ofstream(file_) << "{";
  EXPECT_THAT(Keys({"add", "bob"}).err, HasSubstr("not JSON"));
  EXPECT_EQ(*ReadFile(file_, 1 << 20), "{");
}

TEST_F(KeysCommandTest, ManyAtOnceLoseNone) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 6; ++i) {
    threads.emplace_back([this, i] { EXPECT_EQ(Keys({"add", "k" + std::to_string(i)}).exit_code, 0); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Read().size(), 6u);
}

TEST_F(KeysCommandTest, QuestionsShowTheKeyOfTheFileOrTheEnvironment) {
  FakeGateway gateway;
  const std::string key_file = folder_ / "key";
  std::ofstream(key_file) << "coterie-from-file\n";
  EXPECT_EQ(
      RunCommand({"ask", "hi", "--gateway=" + gateway.address(), "--api-key-file=" + key_file}).exit_code, 0);
  EXPECT_EQ(gateway.authorization(), "Bearer coterie-from-file");
  ASSERT_EQ(setenv("COTERIE_API_KEY", "coterie-from-environment", 1), 0);
  EXPECT_EQ(RunCommand({"ask", "hi", "--gateway=" + gateway.address()}).exit_code, 0);
  EXPECT_EQ(gateway.authorization(), "Bearer coterie-from-environment");
  const CommandOutcome help = RunCommand({"ask", "--help"});
  EXPECT_THAT(help.out, Not(HasSubstr("from-environment")));
  unsetenv("COTERIE_API_KEY");
  EXPECT_EQ(RunCommand({"ask", "hi", "--gateway=" + gateway.address()}).exit_code, 0);
  EXPECT_EQ(gateway.authorization(), "");
  std::ofstream(key_file) << "two\nlines";
  EXPECT_THAT(RunCommand({"ask", "hi", "--gateway=" + gateway.address(), "--api-key-file=" + key_file}).err,
              HasSubstr("holds no API key"));
}

}  // namespace
}  // namespace coterie
