#include "model/publishing/folder_listing.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "common/file.h"
#include "common/quoted.h"

namespace coterie {
namespace {

constexpr size_t kMaxListed = 12;  // of a folder's files, in a message

}  // namespace

StatusOr<FolderListing> FolderListing::Of(const std::filesystem::path& folder) {
  FolderListing listing;
  ASSIGN_OR_RETURN(const std::vector<std::filesystem::path> paths, ListFolder(folder));
  for (const std::filesystem::path& path : paths) listing.names_.push_back(path.filename().string());
  std::sort(listing.names_.begin(), listing.names_.end());
  return listing;
}

bool FolderListing::Has(std::string_view name) const {
  return std::binary_search(names_.begin(), names_.end(), name);
}

std::vector<std::string> FolderListing::AllLike(std::string_view begin, std::string_view end) const {
  std::vector<std::string> found;
  for (const std::string& name : names_) {
    if (name.size() >= begin.size() + end.size() && name.starts_with(begin) && name.ends_with(end)) {
      found.push_back(name);
    }
  }
  return found;
}

std::string FolderListing::Like(std::string_view begin, std::string_view end) const {
  const std::vector<std::string> found = AllLike(begin, end);
  return found.empty() ? "" : found.front();
}

std::string FolderListing::InWords() const {
  return names_.empty() ? "it is empty" : "it holds " + FirstNames(names_);
}

std::string FirstNames(const std::vector<std::string>& names) {
  const size_t shown = std::min(names.size(), kMaxListed);
  std::string words =
      absl::StrJoin(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(shown), ", ",
                    [](std::string* out, const std::string& name) { out->append(Shown(name)); });
  if (shown < names.size()) absl::StrAppend(&words, " and ", names.size() - shown, " more");
  return words;
}

}  // namespace coterie
