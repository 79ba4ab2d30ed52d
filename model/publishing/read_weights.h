#ifndef COTERIE_MODEL_PUBLISHING_READ_WEIGHTS_H_
#define COTERIE_MODEL_PUBLISHING_READ_WEIGHTS_H_

#include <filesystem>
#include <string>

#include "common/status.h"
#include "model/publishing/folder_listing.h"

namespace coterie {

// A regular file of at most kMaxExpertFileBytes; what is none of it is told apart.
StatusOr<std::string> ReadRegularFile(const std::filesystem::path& path);

// Whether the weights of a PEFT adapter stand in several files, whole or not.
bool HasShards(const FolderListing& files);
// Those as one file: joined by their index, or by their names (-00001-of-00002) where it is missing.
StatusOr<std::string> JoinShards(const std::filesystem::path& folder, const FolderListing& files);

// Why a folder without weights that can be read has none, and what to do.
Status MissingWeights(const std::filesystem::path& folder, const FolderListing& files);

}  // namespace coterie

#endif  // COTERIE_MODEL_PUBLISHING_READ_WEIGHTS_H_
