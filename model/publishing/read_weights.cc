#include "model/publishing/read_weights.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "common/file.h"
#include "common/quoted.h"
#include "model/format/safetensors.h"
#include "model/format/write_safetensors.h"
#include "model/publishing/read_folder.h"
#include "model/store/staging.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndex = "adapter_model.safetensors.index.json";
constexpr std::string_view kShardBegin = "adapter_model-";
constexpr std::string_view kShardEnd = ".safetensors";

// For a shell, whatever the path holds.
std::string ShellQuoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += "'\\''";
    } else {
      quoted.push_back(c);
    }
  }
  return quoted + "'";
}

// weights_only: torch then reads tensors alone, and refuses code.
std::string CommandForPickles(const fs::path& folder) {
  return absl::StrCat(
      "cd ", ShellQuoted(folder.string()),
      " && python3 -c 'import glob, torch, safetensors.torch as s; s.save_file({name: tensor.contiguous() "
      "for "
      "file in sorted(glob.glob(\"adapter_model*.bin\")) for name, tensor in torch.load(file, "
      "map_location=\"cpu\", weights_only=True).items()}, \"adapter_model.safetensors\")'");
}

// How many there are of "adapter_model-00001-of-00002.safetensors", or nothing.
StatusOr<size_t> CountOfShards(const fs::path& folder, const std::vector<std::string>& shards) {
  std::set<int> numbers;
  int count = 0;
  for (const std::string& shard : shards) {
    const std::string_view middle = std::string_view(shard).substr(
        kShardBegin.size(), shard.size() - kShardBegin.size() - kShardEnd.size());
    const size_t of = middle.find("-of-");
    int number = 0, own_count = 0;
    if (of == std::string_view::npos || !absl::SimpleAtoi(ToAbsl(middle.substr(0, of)), &number) ||
        !absl::SimpleAtoi(ToAbsl(middle.substr(of + 4)), &own_count) || number < 1 || number > own_count ||
        (count != 0 && own_count != count)) {
      return absl::InvalidArgumentError(
          absl::StrCat(folder.string(), " has no ", ToAbsl(kIndex), ", and ", Quoted(shard),
                       " is not one of a series such as adapter_model-00001-of-00002.safetensors; fetch the "
                       "index as well"));
    }
    count = own_count;
    numbers.insert(number);
  }
  for (int number = 1; number <= count; ++number) {
    if (numbers.contains(number)) continue;
    return absl::NotFoundError(absl::StrCat(folder.string(), ": the adapter is sharded, and shard ", number,
                                            " of ", count, " is missing beside ", Shown(shards.front()),
                                            "; fetch it again"));
  }
  return static_cast<size_t>(count);
}

}  // namespace

StatusOr<std::string> ReadRegularFile(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  // ReadFile refuses these too; here it is said what they are.
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path.string(), fs::is_directory(status) ? " is a folder, not a file"
                                                             : " is a pipe or a device, not a file"));
  }
  if (!fs::exists(status) && fs::is_symlink(fs::symlink_status(path, error))) {
    return absl::NotFoundError(
        absl::StrCat(path.string(),
                     " is a symbolic link that leads nowhere: No such file; where this is a cache of "
                     "downloads, fetch the adapter again"));
  }
  return ReadFile(path, kMaxExpertFileBytes);
}

bool HasShards(const FolderListing& files) {
  return files.Has(kIndex) || !files.Like(kShardBegin, kShardEnd).empty();
}

StatusOr<std::string> JoinShards(const fs::path& folder, const FolderListing& files) {
  std::vector<SafetensorsFile> shards;
  if (files.Has(kIndex)) {
    ASSIGN_OR_RETURN(SafetensorsFile all, SafetensorsFile::OpenSharded(folder / kIndex));
    shards.push_back(std::move(all));
  } else {
    const std::vector<std::string> names = files.AllLike(kShardBegin, kShardEnd);
    RETURN_IF_ERROR(CountOfShards(folder, names).status());
    for (const std::string& name : names) {
      ASSIGN_OR_RETURN(SafetensorsFile one, SafetensorsFile::Open(folder / name));
      shards.push_back(std::move(one));
    }
  }
  std::vector<TensorView> tensors;
  std::set<std::string, std::less<>> seen;
  size_t n_bytes = 0;
  for (const SafetensorsFile& shard : shards) {
    for (const TensorView& tensor : shard.tensors()) {
      if (!seen.insert(tensor.name).second) {
        return absl::InvalidArgumentError(absl::StrCat(folder.string(), ": tensor ", Quoted(tensor.name),
                                                       " stands in two shards; fetch them again"));
      }
      n_bytes += tensor.bytes.size();
      tensors.push_back(tensor);
    }
    for (const auto& [name, type] : shard.other_tensors()) {
      return absl::UnimplementedError(absl::StrCat(folder.string(), ": tensor ", Quoted(name), " has type ",
                                                   Quoted(type), "; an adapter's are F32, F16 or BF16"));
    }
  }
  if (n_bytes > kMaxExpertFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(folder.string(), ": the shards have ", n_bytes,
                                                   " bytes together, the limit is ", kMaxExpertFileBytes));
  }
  std::string whole = WriteSafetensors(tensors);
  for (const TensorView& tensor : tensors) {
    if (tensor.file != nullptr) RETURN_IF_ERROR(tensor.file->CheckWhole());
  }
  return whole;
}

Status MissingWeights(const fs::path& folder, const FolderListing& files) {
  const std::string has_no = absl::StrCat(folder.string(), " has no ", ToAbsl(kWeightsFile));
  if (const std::string pickle = files.Like("adapter_model", ".bin"); !pickle.empty()) {
    return absl::UnimplementedError(absl::StrCat(has_no, " but an ", Shown(pickle),
                                                 ", which is a Python pickle and can run code. Save the "
                                                 "adapter again with PEFT's save_pretrained(), or "
                                                 "convert the file (this needs torch and safetensors):\n  ",
                                                 CommandForPickles(folder)));
  }
  if (files.Has("adapters.safetensors")) {
    return absl::UnimplementedError(
        absl::StrCat(has_no, " but an adapters.safetensors as MLX writes it; convert it to a PEFT adapter"));
  }
  return absl::NotFoundError(absl::StrCat(has_no, "; ", files.InWords()));
}

}  // namespace coterie
