#include "common/watched_file.h"

#include <filesystem>
#include <fstream>

#include "common/file.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

class WatchedFileTest : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::remove(path_); }
  std::string Look() {
    const auto read = file_.ReadIfChanged();
    return !read.ok() ? "error" : read->value_or("same");
  }

  const std::string path_ =
      testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
  WatchedFile file_{path_, 100};
};

TEST_F(WatchedFileTest, ReadsWhatChangedOnce) {
  EXPECT_EQ(Look(), "error");
  ASSERT_TRUE(WriteFileAtomically(path_, "one").ok());
  EXPECT_EQ(Look(), "one");
  EXPECT_EQ(Look(), "same");
  ASSERT_TRUE(WriteFileAtomically(path_, "two").ok());
  EXPECT_EQ(Look(), "two");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(Look(), "same");
  ASSERT_TRUE(WriteFileAtomically(path_, "two").ok());  // another file, the same content
  EXPECT_EQ(Look(), "same");
}

// Written over in place within one tick of the file system's clock, with as many bytes.
TEST_F(WatchedFileTest, MissesNothingThatIsWrittenAtOnce) {
  for (const char* text : {"aaa", "bbb", "ccc", "ddd"}) {
    std::ofstream(path_) << text;
    EXPECT_EQ(Look(), text);
  }
}

TEST_F(WatchedFileTest, AnErrorStaysUntilTheFileIsBack) {
  ASSERT_TRUE(WriteFileAtomically(path_, "one").ok());
  EXPECT_EQ(Look(), "one");
  std::filesystem::remove(path_);
  EXPECT_EQ(Look(), "error");
  EXPECT_EQ(Look(), "error");
  ASSERT_TRUE(WriteFileAtomically(path_, std::string(101, 'x')).ok());
  EXPECT_EQ(Look(), "error");
  ASSERT_TRUE(WriteFileAtomically(path_, "one").ok());
  EXPECT_EQ(Look(), "same");
}

}  // namespace
}  // namespace coterie
