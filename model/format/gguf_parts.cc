// A GGUF model in several files, as llama-gguf-split writes them: NAME-00001-of-00003.gguf and so on. The
// first has the metadata; each has some of the tensors and says in split.no and split.count which part it is.
#include <cstdio>

#include "absl/strings/match.h"
#include "common/quoted.h"
#include "model/format/gguf.h"

namespace coterie {
namespace {

std::string PartSuffix(int part, int n_parts) {
  char text[32];
  std::snprintf(text, sizeof text, "-%05d-of-%05d.gguf", part + 1, n_parts);
  return text;
}

}  // namespace

StatusOr<int> GgufFile::PartCount(const GgufLimits& limits) const {
  constexpr std::string_view kCount = "split.count";
  if (!Has(kCount)) return 1;
  ASSIGN_OR_RETURN(const int64_t count, GetInt(kCount));
  if (count >= 0 && count <= limits.max_parts) return static_cast<int>(count);  // 0: as if it were not there
  return absl::InvalidArgumentError(
      absl::StrCat(name_, ": split.count is ", count, ", the limit is ", limits.max_parts));
}

StatusOr<GgufFile> GgufFile::Open(const std::filesystem::path& path, const GgufLimits& limits) {
  ASSIGN_OR_RETURN(GgufFile first, OpenPart(path, limits));
  ASSIGN_OR_RETURN(const int n_parts, first.PartCount(limits));
  if (n_parts <= 1) return first;
  const std::string suffix = PartSuffix(0, n_parts);
  const std::string name = path.filename().string();
  if (!absl::EndsWith(name, suffix)) {
    return absl::InvalidArgumentError(absl::StrCat(first.name_, ": the model is split over ", n_parts,
                                                   " files; name the first, which ends in ", suffix));
  }
  const std::string stem = name.substr(0, name.size() - suffix.size());
  for (int part = 0; part < n_parts; ++part) {
    if (part == 0) {
      RETURN_IF_ERROR(first.CheckPart(part, n_parts));
      continue;
    }
    ASSIGN_OR_RETURN(GgufFile next,
                     OpenPart(path.parent_path() / (stem + PartSuffix(part, n_parts)), limits));
    RETURN_IF_ERROR(next.CheckPart(part, n_parts));
    RETURN_IF_ERROR(first.TakeTensorsOf(std::move(next), limits));
  }
  return first;
}

Status GgufFile::CheckPart(int part, int n_parts) const {
  for (const auto& [key, want] : {std::pair("split.no", part), std::pair("split.count", n_parts)}) {
    ASSIGN_OR_RETURN(const int64_t value, GetInt(key));
    if (value == want) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(name_, ": ", key, " is ", value, ", its name makes it ", want));
  }
  return absl::OkStatus();
}

Status GgufFile::TakeTensorsOf(GgufFile part, const GgufLimits& limits) {
  if (tensors_.size() + part.tensors_.size() > limits.max_tensors) {
    return absl::InvalidArgumentError(absl::StrCat(part.name_, ": the parts up to here have ",
                                                   tensors_.size() + part.tensors_.size(),
                                                   " tensors, the limit is ", limits.max_tensors));
  }
  for (const auto& [name, index] : part.tensor_index_) {
    if (tensor_index_.contains(name)) {
      return absl::InvalidArgumentError(
          absl::StrCat(part.name_, ": tensor ", Quoted(name), " is in an earlier part, too"));
    }
    tensor_index_.emplace(name,
                          tensors_.size() + index);  // a view of the part's file, which its tensors keep
  }
  tensors_.insert(tensors_.end(), part.tensors_.begin(), part.tensors_.end());
  return absl::OkStatus();
}

}  // namespace coterie
