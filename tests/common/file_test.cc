#include "common/file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <vector>

#include "gmock/gmock.h"
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

TEST_F(FileTest, AFolderIsListedOrNamed) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", "1").ok());
  ASSERT_TRUE(fs::create_directory(folder_ / "b"));
  std::vector<fs::path> paths = ListFolder(folder_).value();
  std::sort(paths.begin(), paths.end());
  EXPECT_EQ(paths, (std::vector<fs::path>{folder_ / "a", folder_ / "b"}));
  EXPECT_EQ(ListFolder(folder_ / "none").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ListFolder(folder_ / "a").status().message(),
            absl::StrCat("cannot list ", (folder_ / "a").string(), ": Not a directory"));
}

// The kernel answers an open folder of /proc with an error once its process is gone.
TEST_F(FileTest, AFolderThatFailsWhileItIsListedIsAnError) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) ::pause();
  const int folder = ::open(absl::StrCat("/proc/", child, "/net").c_str(), O_RDONLY | O_DIRECTORY);
  ASSERT_GE(folder, 0);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  ASSERT_EQ(::waitpid(child, nullptr, 0), child);
  EXPECT_FALSE(ListFolder(absl::StrCat("/proc/self/fd/", folder)).ok());
  ::close(folder);
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

TEST_F(FileTest, PipesAndDevicesAreRefusedAtOnceInsteadOfWaitedFor) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  fs::create_symlink("/dev/zero", folder_ / "zeros");
  for (const char* name : {"pipe", "zeros", "."}) {
    const fs::path path = folder_ / name;
    const Status expected =
        absl::InvalidArgumentError(absl::StrCat("cannot read ", path.string(), ": not a regular file"));
    EXPECT_EQ(ReadFile(path, 100).status(), expected);
    EXPECT_EQ(MappedFile::Open(path).status(), expected);
  }
}

TEST_F(FileTest, ReadsFilesThatDoNotKnowTheirSize) {
  EXPECT_NE(ReadFile("/proc/self/status", 1 << 20).value().find("VmRSS"), std::string::npos);
  EXPECT_EQ(ReadFile("/proc/self/status", 10).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(FileTest, AFileThatShrinksUnderItsMappingIsAnErrorAndKillsNobody) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", std::string(300'000, 'x')).ok());
  ASSERT_TRUE(WriteFileAtomically(folder_ / "b", std::string(300'000, 'y')).ok());
  auto file = MappedFile::Open(folder_ / "a").value();
  auto other = MappedFile::Open(folder_ / "b").value();
  EXPECT_EQ(file->bytes()[299'999], 'x');
  EXPECT_TRUE(file->CheckWhole().ok());
  ASSERT_EQ(::truncate((folder_ / "a").c_str(), 100'000), 0);
  int64_t sum = 0;
  for (const uint8_t byte : file->bytes()) sum += byte;
  EXPECT_EQ(sum, 100'000 * 'x');  // the rest of the file's last page is zeros, and so is what follows
  const Status status = file->CheckWhole();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(status.message().find((folder_ / "a").string() + " had 300000 bytes"), absl::string_view::npos);
  EXPECT_EQ(other->bytes()[299'999], 'y');
  EXPECT_TRUE(other->CheckWhole().ok());
  // What is mapped at the same place later is another file.
  file.reset();
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", std::string(300'000, 'z')).ok());
  EXPECT_TRUE(MappedFile::Open(folder_ / "a").value()->CheckWhole().ok());
}

// A fault that is nobody's mapping must end the process as ever: a handler that returned would loop.
TEST_F(FileTest, AFaultOutsideOfMappedFilesStillEndsTheProcess) {
  ASSERT_TRUE(WriteFileAtomically(folder_ / "a", std::string(8192, 'x')).ok());
  const pid_t child = ::fork();
  if (child == 0) {
    auto guarded = MappedFile::Open(folder_ / "a").value();
    const int fd = ::open((folder_ / "a").c_str(), O_RDONLY);
    const void* own = ::mmap(nullptr, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
    if (::truncate((folder_ / "a").c_str(), 0) != 0) ::_exit(4);
    ::_exit(static_cast<const volatile char*>(own)[4096] == 0 ? 2 : 3);
  }
  int outcome = 0;
  ASSERT_EQ(::waitpid(child, &outcome, 0), child);
  // By the signal; or by a sanitizer, whose handler stood there before ours, with that one's exit code.
  if (WIFSIGNALED(outcome)) {
    EXPECT_EQ(WTERMSIG(outcome), SIGBUS);
  } else {
    EXPECT_THAT(WEXITSTATUS(outcome), ::testing::AnyOf(1, 66)) << "AddressSanitizer and ThreadSanitizer";
  }
}

}  // namespace
}  // namespace coterie
