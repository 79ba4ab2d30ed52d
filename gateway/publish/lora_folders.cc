#include "gateway/publish/lora_folders.h"

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "common/quoted.h"
#include "common/utf8.h"

namespace coterie::gateway {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxPathBytes = 1024;
constexpr int kMaxEntries = 10'000;  // of an adapter's folder, in all below it

bool IsBelow(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

Status CheckWritten(const std::string& path) {
  if (path.empty()) return absl::InvalidArgumentError("lora_path is empty; give the adapter's folder");
  if (path.size() > kMaxPathBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora_path has ", path.size(), " bytes, at most ", kMaxPathBytes, " are allowed"));
  }
  const bool control =
      std::any_of(path.begin(), path.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  if (control || !IsWellFormed(path)) {
    return absl::InvalidArgumentError(
        absl::StrCat("lora_path is ", Quoted(path), "; control characters are not allowed"));
  }
  const fs::path written(path);
  if (std::find(written.begin(), written.end(), "..") != written.end()) {
    return absl::InvalidArgumentError(absl::StrCat("lora_path is ", Quoted(path), "; \"..\" is not allowed"));
  }
  return absl::OkStatus();
}

Status LeadsOut(const std::string& path, std::string_view what) {
  return absl::PermissionDeniedError(absl::StrCat("lora_path ", Quoted(path), ": ", ToAbsl(what),
                                                  " leads out of the folders that --lora-folders names"));
}

// Whether every link below `folder` stays within `root`.
Status CheckLinks(const fs::path& folder, const fs::path& root, const std::string& path) {
  std::error_code error;
  int n_left = kMaxEntries;
  for (auto at = fs::recursive_directory_iterator(folder, error); !error && at != fs::end(at);
       at.increment(error)) {
    if (n_left-- == 0) {
      return absl::InvalidArgumentError(absl::StrCat("lora_path ", Quoted(path), " holds more than ",
                                                     kMaxEntries, " files; name the adapter's own folder"));
    }
    if (!at->is_symlink(error)) continue;
    const fs::path target = fs::canonical(at->path(), error);
    if (error) {  // leads nowhere: whoever reads it says so
      error.clear();
      continue;
    }
    if (!IsBelow(target, root)) return LeadsOut(path, "its file " + Quoted(at->path().filename().string()));
  }
  if (!error) return absl::OkStatus();
  return absl::PermissionDeniedError(
      absl::StrCat("lora_path ", Quoted(path), " cannot be read: ", error.message()));
}

}  // namespace

StatusOr<LoraFolders> LoraFolders::Of(const std::vector<std::string>& folders) {
  LoraFolders checked;
  for (const std::string& folder : folders) {
    std::error_code error;
    fs::path real = fs::canonical(folder, error);
    if (error)
      return absl::NotFoundError(absl::StrCat("--lora-folders: ", Quoted(folder), ": ", error.message()));
    if (!fs::is_directory(real, error)) {
      return absl::InvalidArgumentError(absl::StrCat("--lora-folders: ", Quoted(folder), " is no folder"));
    }
    if (real == real.root_path()) {
      return absl::InvalidArgumentError(
          "--lora-folders: the whole file system is too much; name a folder of adapters");
    }
    checked.folders_.push_back(std::move(real));
  }
  return checked;
}

StatusOr<fs::path> LoraFolders::Resolve(const std::string& path) const {
  if (folders_.empty()) {
    return absl::PermissionDeniedError(
        "this gateway loads no adapters from its own disk; --lora-folders names the folders that it may "
        "read");
  }
  RETURN_IF_ERROR(CheckWritten(path));
  for (const fs::path& folder : folders_) {
    std::error_code error;
    const fs::path asked = (folder / path).lexically_normal();  // an absolute one takes the folder's place
    if (!IsBelow(asked, folder)) continue;
    const fs::path real = fs::canonical(asked, error);
    if (error) continue;
    if (!IsBelow(real, folder)) return LeadsOut(path, "a symbolic link on its way");
    if (fs::is_directory(real, error)) RETURN_IF_ERROR(CheckLinks(real, folder, path));
    return real;
  }
  return absl::NotFoundError(absl::StrCat("lora_path ", Quoted(path),
                                          ": there is no such folder below those that --lora-folders names"));
}

}  // namespace coterie::gateway
