#ifndef COTERIE_TESTS_SOURCE_ROOT_H_
#define COTERIE_TESTS_SOURCE_ROOT_H_

#include <filesystem>

namespace coterie::testing {

// The root of the sources: tests find committed data from here, whatever the build folder.
inline std::filesystem::path SourceRoot() { return COTERIE_SOURCE_DIR; }

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_SOURCE_ROOT_H_
