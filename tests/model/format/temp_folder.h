#ifndef COTERIE_TESTS_MODEL_FORMAT_TEMP_FOLDER_H_
#define COTERIE_TESTS_MODEL_FORMAT_TEMP_FOLDER_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "common/file.h"

namespace coterie::testing {

// A folder of its own for each test, removed at the end.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = ::testing::TempDir() + "coterie-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path Write(std::string_view name, std::string_view content) const {
    const std::filesystem::path file = path_ / name;
    const Status status = WriteFileAtomically(file, content);
    EXPECT_TRUE(status.ok()) << status;
    return file;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_FORMAT_TEMP_FOLDER_H_
