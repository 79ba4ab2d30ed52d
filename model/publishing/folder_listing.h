#ifndef COTERIE_MODEL_PUBLISHING_FOLDER_LISTING_H_
#define COTERIE_MODEL_PUBLISHING_FOLDER_LISTING_H_

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// What a folder holds, by name.
class FolderListing {
 public:
  static StatusOr<FolderListing> Of(const std::filesystem::path& folder);

  const std::vector<std::string>& names() const { return names_; }  // ascending
  bool Has(std::string_view name) const;
  // Those that begin and end so.
  std::vector<std::string> AllLike(std::string_view begin, std::string_view end) const;
  // The first of them, or nothing.
  std::string Like(std::string_view begin, std::string_view end) const;
  // "it holds a, b and 3 more".
  std::string InWords() const;

 private:
  std::vector<std::string> names_;
};

// "a, b and 3 more"; `names` is not empty.
std::string FirstNames(const std::vector<std::string>& names);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_FOLDER_LISTING_H_
