#include "common/path_name.h"

#include <string_view>
#include <system_error>

namespace coterie {

std::string PathName(const std::filesystem::path& path) {
  std::error_code error;
  // "..", "." and "a/.." have no name of their own; a link's is what somebody chose to call it.
  std::filesystem::path whole = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return "";
  if (!whole.has_filename()) whole = whole.parent_path();
  constexpr std::string_view kCached = "models--";
  const std::string model = whole.parent_path().parent_path().filename().string();
  if (whole.parent_path().filename() == "snapshots" && model.starts_with(kCached)) {
    return model.substr(model.rfind("--") + 2);
  }
  return whole.filename().string();
}

}  // namespace coterie
