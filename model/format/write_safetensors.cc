#include "model/format/write_safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/check.h"

namespace coterie {

std::string WriteSafetensors(std::vector<TensorView> tensors,
                             const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t n_bytes = 0;
  for (const TensorView& tensor : tensors) {
    COTERIE_CHECK(BlockElements(tensor.dtype) == 1)
        << tensor.name << " is of a block type, which the format lacks";
    header[tensor.name] = {{"dtype", DTypeName(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {n_bytes, n_bytes + tensor.bytes.size()}}};
    n_bytes += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the tensors begin aligned
  const uint64_t n_header_bytes = text.size();
  std::string file;
  file.reserve(sizeof n_header_bytes + text.size() + n_bytes);
  for (size_t i = 0; i < sizeof n_header_bytes; ++i) {
    file.push_back(static_cast<char>(n_header_bytes >> (8 * i) & 0xFF));
  }
  file += text;
  for (const TensorView& tensor : tensors) {
    file.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  return file;
}

}  // namespace coterie
