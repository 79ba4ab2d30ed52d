#ifndef COTERIE_MODEL_FORMAT_SAFETENSORS_H_
#define COTERIE_MODEL_FORMAT_SAFETENSORS_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "model/format/tensor_view.h"

namespace coterie {

struct SafetensorsLimits {
  uint64_t max_header_bytes = 100'000'000;  // the format's own limit
  size_t max_tensors = 1 << 18;
  size_t max_dimensions = 8;
  size_t max_name_bytes = 4096;
  size_t max_metadata_bytes = 16 << 20;
  size_t max_shards = 1024;
};

// The tensors of one .safetensors file, or of all shards of a model.safetensors.index.json (format: README of
// the safetensors project). Immutable, readable by any thread; tensors are views of the mapped files.
//
// Checked: header length, '{' first, UTF-8, strict structure, no key twice, size = shape x dtype without
// overflow, tensors in order without overlap or hole up to the last byte of the file. Element types that
// DType lacks (I64 buffers, say) are checked as well and refused only when asked for. Errors are
// InvalidArgument or OutOfRange naming file, tensor, value and limit.
class SafetensorsFile {
 public:
  static StatusOr<SafetensorsFile> Open(const std::filesystem::path& path,
                                        const SafetensorsLimits& limits = {});
  // `bytes` must outlive the result; `name` stands in errors.
  static StatusOr<SafetensorsFile> Parse(std::span<const uint8_t> bytes, std::string_view name,
                                         const SafetensorsLimits& limits = {});
  // Every file that the index's weight_map names, beside the index. Each tensor must stand in the file it is
  // said to be in, and each tensor of these files must be in the map.
  static StatusOr<SafetensorsFile> OpenSharded(const std::filesystem::path& index_path,
                                               const SafetensorsLimits& limits = {});
  // model.safetensors in `folder`, or its index when there is none.
  static StatusOr<SafetensorsFile> OpenFolder(const std::filesystem::path& folder,
                                              const SafetensorsLimits& limits = {});

  const std::string& name() const { return name_; }
  // By ascending name; only those whose element type DType has.
  const std::vector<TensorView>& tensors() const { return tensors_; }
  // Null when absent or of another element type.
  const TensorView* Find(std::string_view name) const;
  // NotFound, or Unimplemented naming the element type.
  StatusOr<TensorView> Get(std::string_view name) const;
  // Tensors of other element types: name -> type.
  const std::map<std::string, std::string, std::less<>>& other_tensors() const { return others_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }

 private:
  friend class SafetensorsParser;
  void Sort();

  std::string name_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string, std::less<>> others_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_SAFETENSORS_H_
