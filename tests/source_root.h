#ifndef COTERIE_TESTS_SOURCE_ROOT_H_
#define COTERIE_TESTS_SOURCE_ROOT_H_

#include <cstdlib>
#include <filesystem>

namespace coterie::testing {

// The root of the sources: tests find committed data from here, whatever the build folder. A binary that was
// carried to another machine is told where they are by COTERIE_SOURCE_ROOT.
inline std::filesystem::path SourceRoot() {
  const char* const carried = std::getenv("COTERIE_SOURCE_ROOT");
  return carried != nullptr ? carried : COTERIE_SOURCE_DIR;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_SOURCE_ROOT_H_
