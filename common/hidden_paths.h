#ifndef COTERIE_COMMON_HIDDEN_PATHS_H_
#define COTERIE_COMMON_HIDDEN_PATHS_H_

#include <filesystem>
#include <string_view>

#include "common/status.h"

namespace coterie {

// `status` as a client may read it: where a path at or below `folder` stands, the file's own name
// ("expert.yaml"), and `what` ("the expert store") for the folder itself. Where a server keeps its files is
// the operator's business, and tells the client nothing. Only an absolute `folder` is looked for: a relative
// one may be any word. Thread-safe.
Status WithoutPaths(const Status& status, const std::filesystem::path& folder, std::string_view what);

}  // namespace coterie

#endif  // COTERIE_COMMON_HIDDEN_PATHS_H_
