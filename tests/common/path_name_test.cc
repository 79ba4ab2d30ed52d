#include "common/path_name.h"

#include "gtest/gtest.h"

namespace coterie {
namespace {

TEST(PathNameTest, AFolderHasOneNameHoweverItIsWritten) {
  for (const char* path :
       {"/a/postgres", "/a/postgres/", "/a/postgres/.", "/a/postgres/b/..", "/a/./b/../postgres//",
        "/c/models--org--postgres/snapshots/0123456789abcdef", "experts/postgres/"}) {
    EXPECT_EQ(PathName(path), "postgres") << path;
  }
  EXPECT_EQ(PathName("."), std::filesystem::current_path().filename());
  EXPECT_EQ(PathName("/"), "");
  EXPECT_EQ(PathName("/a/snapshots/b"), "b");
  EXPECT_EQ(PathName("/a/base.gguf"), "base.gguf");
}

}  // namespace
}  // namespace coterie
