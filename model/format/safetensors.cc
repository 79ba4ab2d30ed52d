#include "model/format/safetensors.h"

#include <algorithm>
#include <set>
#include <system_error>

#include "common/json.h"
#include "common/quoted.h"

namespace coterie {
namespace {

// A shard's name must stay inside the folder of its index.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace

const TensorView* SafetensorsFile::Find(std::string_view name) const {
  const auto it = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const TensorView& t, std::string_view n) { return t.name < n; });
  return it == tensors_.end() || it->name != name ? nullptr : &*it;
}

StatusOr<TensorView> SafetensorsFile::Get(std::string_view name) const {
  if (const TensorView* tensor = Find(name)) return *tensor;
  if (const auto it = others_.find(name); it != others_.end()) {
    return absl::UnimplementedError(absl::StrCat(name_, ": tensor ", Quoted(name), " has type ", it->second,
                                                 ", supported are F32, F16, BF16"));
  }
  return absl::NotFoundError(absl::StrCat(name_, ": no tensor ", Quoted(name)));
}

StatusOr<SafetensorsFile> SafetensorsFile::OpenSharded(const std::filesystem::path& index_path,
                                                       const SafetensorsLimits& limits) {
  const std::string index_name = index_path.string();
  // One value for each tensor, and what little else an index holds.
  const JsonLimits json_limits = {
      .max_bytes = limits.max_header_bytes, .max_depth = 4, .max_values = limits.max_tensors + 1024};
  ASSIGN_OR_RETURN(const Json index, ReadJsonFile(index_name, json_limits));
  ASSIGN_OR_RETURN(const JsonFields fields, JsonFields::Of(index, index_name));
  ASSIGN_OR_RETURN(const JsonFields weight_map, fields.Object("weight_map"));

  std::map<std::string, std::set<std::string>> names_of_shard;
  for (const auto& [tensor, shard] : weight_map.object().items()) {
    if (!shard.is_string()) return weight_map.Refuse(tensor, "expected the name of a file");
    const std::string file = shard.get<std::string>();
    if (!IsPlainFileName(file))
      return weight_map.Refuse(tensor, "expected the name of a file beside the index");
    names_of_shard[file].insert(tensor);
  }
  if (names_of_shard.size() > limits.max_shards) {
    return absl::InvalidArgumentError(absl::StrCat(index_name, ": weight_map names ", names_of_shard.size(),
                                                   " files, the limit is ", limits.max_shards));
  }

  SafetensorsFile out;
  out.name_ = index_name;
  for (auto& shard_and_names : names_of_shard) {
    // Names instead of a structured binding: a lambda of C++20 may capture them, but clang 14 does not know.
    const std::string& file = shard_and_names.first;
    auto& names = shard_and_names.second;
    ASSIGN_OR_RETURN(SafetensorsFile shard, Open(index_path.parent_path() / file, limits));
    const auto claimed = [&index_name, &names = names, &file = file](std::string_view tensor) -> Status {
      if (names.erase(std::string(tensor)) == 1) return absl::OkStatus();
      return absl::InvalidArgumentError(absl::StrCat(index_name, ": tensor ", Quoted(tensor), " stands in ",
                                                     file, ", but weight_map says otherwise"));
    };
    for (TensorView& tensor : shard.tensors_) {
      RETURN_IF_ERROR(claimed(tensor.name));
      out.tensors_.push_back(std::move(tensor));
    }
    for (const auto& [tensor, type] : shard.others_) {
      RETURN_IF_ERROR(claimed(tensor));
      out.others_.emplace(tensor, type);
    }
    if (!names.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(index_name, ": weight_map says that tensor ",
                                                     Quoted(*names.begin()), " stands in ", file,
                                                     ", which lacks it"));
    }
    out.metadata_.merge(shard.metadata_);
  }
  out.Sort();
  return out;
}

StatusOr<SafetensorsFile> SafetensorsFile::OpenFolder(const std::filesystem::path& folder,
                                                      const SafetensorsLimits& limits) {
  std::error_code ignored;
  const std::filesystem::path single = folder / "model.safetensors";
  if (std::filesystem::exists(single, ignored)) return Open(single, limits);
  const std::filesystem::path index = folder / "model.safetensors.index.json";
  if (std::filesystem::exists(index, ignored)) return OpenSharded(index, limits);
  return absl::NotFoundError(
      absl::StrCat(folder.string(), " has neither model.safetensors nor model.safetensors.index.json"));
}

}  // namespace coterie
