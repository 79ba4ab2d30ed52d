#include "gateway/publish/lora_folders.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/experts.h"

namespace coterie::gateway::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class LoraFoldersTest : public ::testing::Test {
 protected:
  LoraFoldersTest() {
    fs::create_directories(folder_ / "loras" / "law");
    fs::create_directories(folder_ / "loras2" / "other");
    fs::create_directories(folder_ / "secret" / "law");
    std::ofstream(folder_ / "secret" / "law" / "adapter_config.json") << "{}";
  }
  ~LoraFoldersTest() override { fs::remove_all(folder_); }
  StatusOr<fs::path> Resolve(const std::string& path) {
    return LoraFolders::Of({(folder_ / "loras").string(), (folder_ / "loras2").string() + "/"})
        ->Resolve(path);
  }
  void ExpectRefused(const std::string& path, absl::StatusCode code, const std::string& words) {
    const auto resolved = Resolve(path);
    EXPECT_EQ(resolved.status().code(), code) << path << " " << resolved.status();
    EXPECT_THAT(std::string(resolved.status().message()), HasSubstr(words)) << path;
  }

  const fs::path folder_ = fs::canonical(FreshFolder());
};

TEST_F(LoraFoldersTest, FindsWhatLiesBelow) {
  EXPECT_EQ(*Resolve("law"), folder_ / "loras" / "law");
  EXPECT_EQ(*Resolve("./law/"), folder_ / "loras" / "law");
  EXPECT_EQ(*Resolve("other"), folder_ / "loras2" / "other");
  EXPECT_EQ(*Resolve((folder_ / "loras2" / "other").string()), folder_ / "loras2" / "other");
  EXPECT_TRUE(Resolve(".").ok());
}

TEST_F(LoraFoldersTest, NothingOutsideIsLookedAt) {
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused("", kInvalid, "is empty");
  ExpectRefused("../secret/law", kInvalid, "\"..\" is not allowed");
  ExpectRefused("law/../../secret/law", kInvalid, "\"..\" is not allowed");
  ExpectRefused((folder_ / "loras" / ".." / "secret").string(), kInvalid, "\"..\" is not allowed");
  ExpectRefused(std::string("law\0/../../secret", 17), kInvalid, "control characters");
  ExpectRefused(std::string(2000, 'a'), kInvalid, "2000 bytes");
  ExpectRefused("nowhere", absl::StatusCode::kNotFound, "no such folder");
  // Whether it is there or not is told in the same words.
  ExpectRefused((folder_ / "secret" / "law").string(), absl::StatusCode::kNotFound, "no such folder");
  ExpectRefused((folder_ / "secret" / "none").string(), absl::StatusCode::kNotFound, "no such folder");
  ExpectRefused((folder_ / "loras3").string(), absl::StatusCode::kNotFound,
                "no such folder");  // a prefix is no folder
  const auto none = LoraFolders::Of({})->Resolve("law");
  EXPECT_EQ(none.status().code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(none.status().message()), HasSubstr("--lora-folders"));
}

TEST_F(LoraFoldersTest, LinksMayNotLeadOut) {
  const fs::path loras = folder_ / "loras";
  fs::create_directory_symlink(folder_ / "secret" / "law", loras / "way");
  ExpectRefused("way", absl::StatusCode::kPermissionDenied, "leads out");
  fs::create_directories(loras / "files" / "deep");
  fs::create_symlink(folder_ / "secret" / "law" / "adapter_config.json",
                     loras / "files" / "deep" / "adapter_config.json");
  ExpectRefused("files", absl::StatusCode::kPermissionDenied, "\"adapter_config.json\" leads out");
  // Another of the folders is outside of this one, too.
  fs::create_directory_symlink(folder_ / "loras2" / "other", loras / "neighbour");
  ExpectRefused("neighbour", absl::StatusCode::kPermissionDenied, "leads out");
  // As a cache of downloads has them.
  fs::create_directories(loras / "cache" / "blobs");
  fs::create_directories(loras / "cache" / "snapshots" / "1");
  std::ofstream(loras / "cache" / "blobs" / "b") << "{}";
  fs::create_symlink("../../blobs/b", loras / "cache" / "snapshots" / "1" / "adapter_config.json");
  EXPECT_TRUE(Resolve("cache").ok());
  fs::create_symlink("nowhere", loras / "law" / "dangling");
  EXPECT_TRUE(Resolve("law").ok());
}

TEST_F(LoraFoldersTest, FoldersMustBeFolders) {
  EXPECT_EQ(LoraFolders::Of({(folder_ / "none").string()}).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(LoraFolders::Of({(folder_ / "secret/law/adapter_config.json").string()}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(LoraFolders::Of({"/"}).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace coterie::gateway::testing
