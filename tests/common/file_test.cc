#include "common/file.h"

#include <filesystem>
#include <fstream>

#include "gtest/gtest.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  fs::path folder_;
};

TEST_F(FileTest, AtomicWriteReplacesTheWholeContentAndLeavesNoTemporary) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", "first").ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", "2").ok());
  EXPECT_EQ(ReadFile(folder_ / "a", 100).value(), "2");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);
}

TEST_F(FileTest, AFullDiskIsResourceExhaustedAndKeepsTheOldContent) {
  const Status status = WriteFileAtomically("/dev/full/x", "content");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(ErrnoStatus(ENOSPC, "cannot write", "/a").code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FileTest, ReadingBeyondTheLimitNamesFileAndLimit) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", "12345").ok());
  const Status status = ReadFile(folder_ / "a", 4).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(),
            absl::StrCat("file ", (folder_ / "a").string(), " is larger than the limit of 4 bytes"));
}

TEST_F(FileTest, MapsContentAndRefusesFolders) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", "abc").ok());
  auto file = MappedFile::Open(folder_ / "a").value();
  EXPECT_EQ(std::string(file->bytes().begin(), file->bytes().end()), "abc");
  EXPECT_EQ(MappedFile::Open(folder_).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(MappedFile::Open(folder_ / "none").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace coterie
