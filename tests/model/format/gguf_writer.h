#ifndef COTERIE_TESTS_MODEL_FORMAT_GGUF_WRITER_H_
#define COTERIE_TESTS_MODEL_FORMAT_GGUF_WRITER_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/format/gguf.h"

namespace coterie::testing {

// Writes little GGUF files in memory for tests, well-formed or (through the public fields) not.
class GgufWriter {
 public:
  uint32_t magic = 0x46554747;
  uint32_t version = 3;
  uint64_t alignment = 32;  // of the data section; written as metadata only by AddU32("general.alignment", …)
  int64_t extra_tensor_count = 0;
  int64_t extra_pair_count = 0;

  GgufWriter& AddString(std::string_view key, std::string_view value) {
    Begin(key, GgufType::kString);
    Text(&pairs_, value);
    return *this;
  }
  GgufWriter& AddU32(std::string_view key, uint32_t value) { return AddScalar(key, GgufType::kU32, value); }
  GgufWriter& AddF32(std::string_view key, float value) { return AddScalar(key, GgufType::kF32, value); }
  GgufWriter& AddBool(std::string_view key, bool value) {
    return AddScalar(key, GgufType::kBool, static_cast<uint8_t>(value));
  }
  template <typename T>
  GgufWriter& AddScalar(std::string_view key, GgufType type, T value) {
    Begin(key, type);
    Put(&pairs_, value);
    return *this;
  }
  GgufWriter& AddStrings(std::string_view key, const std::vector<std::string>& values) {
    BeginArray(key, GgufType::kString, values.size());
    for (const std::string& value : values) Text(&pairs_, value);
    return *this;
  }
  template <typename T>
  GgufWriter& AddArray(std::string_view key, GgufType element_type, const std::vector<T>& values) {
    BeginArray(key, element_type, values.size());
    for (const T& value : values) Put(&pairs_, value);
    return *this;
  }
  // An array head that promises `n_elements` and brings none.
  GgufWriter& AddArrayHead(std::string_view key, GgufType element_type, uint64_t n_elements) {
    BeginArray(key, element_type, n_elements);
    return *this;
  }

  // `shape` outermost first; data is padded to the alignment.
  GgufWriter& AddTensor(std::string_view name, uint32_t type_id, const std::vector<int64_t>& shape,
                        std::string_view data) {
    AddTensorInfo(name, type_id, shape, data_.size());
    data_.append(data);
    data_.resize((data_.size() + alignment - 1) / alignment * alignment, '\0');
    return *this;
  }
  GgufWriter& AddF32Tensor(std::string_view name, const std::vector<int64_t>& shape,
                           const std::vector<float>& values) {
    return AddTensor(name, 0, shape,
                     {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  GgufWriter& AddTensorInfo(std::string_view name, uint32_t type_id, const std::vector<int64_t>& shape,
                            uint64_t offset) {
    ++n_tensors_;
    Text(&infos_, name);
    Put(&infos_, static_cast<uint32_t>(shape.size()));
    for (size_t i = shape.size(); i-- > 0;) Put(&infos_, static_cast<uint64_t>(shape[i]));
    Put(&infos_, type_id);
    Put(&infos_, offset);
    return *this;
  }

  std::string Bytes() const {
    std::string out;
    Put(&out, magic);
    Put(&out, version);
    Put(&out, n_tensors_ + static_cast<uint64_t>(extra_tensor_count));
    Put(&out, n_pairs_ + static_cast<uint64_t>(extra_pair_count));
    out += pairs_;
    out += infos_;
    out.resize((out.size() + alignment - 1) / alignment * alignment, '\0');
    return out + data_;
  }

 private:
  template <typename T>
  static void Put(std::string* out, T value) {
    out->append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void Text(std::string* out, std::string_view text) {
    Put(out, static_cast<uint64_t>(text.size()));
    out->append(text);
  }
  void Begin(std::string_view key, GgufType type) {
    ++n_pairs_;
    Text(&pairs_, key);
    Put(&pairs_, type);
  }
  void BeginArray(std::string_view key, GgufType element_type, uint64_t n_elements) {
    Begin(key, GgufType::kArray);
    Put(&pairs_, element_type);
    Put(&pairs_, n_elements);
  }

  uint64_t n_tensors_ = 0, n_pairs_ = 0;
  std::string pairs_, infos_, data_;
};

inline std::span<const uint8_t> AsBytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_FORMAT_GGUF_WRITER_H_
