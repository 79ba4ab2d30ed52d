#ifndef COTERIE_COMMON_PATH_NAME_H_
#define COTERIE_COMMON_PATH_NAME_H_

#include <filesystem>
#include <string>

namespace coterie {

// What people call a file or folder, however its path was written: "experts/postgres/", "." inside it and a
// symbolic link of that name are all postgres. A snapshot of the Hugging Face cache
// (models--ORG--NAME/snapshots/COMMIT) is NAME. Empty for the root.
std::string PathName(const std::filesystem::path& path);

}  // namespace coterie

#endif  // COTERIE_COMMON_PATH_NAME_H_
