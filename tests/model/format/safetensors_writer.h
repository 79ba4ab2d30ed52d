#ifndef COTERIE_TESTS_MODEL_FORMAT_SAFETENSORS_WRITER_H_
#define COTERIE_TESTS_MODEL_FORMAT_SAFETENSORS_WRITER_H_

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/status.h"

namespace coterie::testing {

// A safetensors file from a header and data as given, right or wrong.
inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  out.append(header);
  out.append(data);
  return out;
}

// Writes little well-formed safetensors files in memory.
class SafetensorsWriter {
 public:
  SafetensorsWriter& Add(std::string_view name, std::string_view dtype, const std::vector<int64_t>& shape,
                         std::string_view bytes) {
    if (!entries_.empty()) entries_ += ",";
    absl::StrAppend(&entries_, "\"", ToAbsl(name), "\":{\"dtype\":\"", ToAbsl(dtype), "\",\"shape\":[",
                    absl::StrJoin(shape, ","), "],\"data_offsets\":[", data_.size(), ",",
                    data_.size() + bytes.size(), "]}");
    data_.append(bytes);
    return *this;
  }
  SafetensorsWriter& AddF32(std::string_view name, const std::vector<int64_t>& shape,
                            const std::vector<float>& values) {
    return Add(name, "F32", shape, {reinterpret_cast<const char*>(values.data()), values.size() * 4});
  }
  SafetensorsWriter& AddBF16(std::string_view name, const std::vector<int64_t>& shape,
                             const std::vector<float>& values) {
    std::vector<uint16_t> halves;
    for (const float v : values) halves.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16));
    return Add(name, "BF16", shape, {reinterpret_cast<const char*>(halves.data()), halves.size() * 2});
  }
  std::string Bytes() const { return SafetensorsBytes("{" + entries_ + "}", data_); }

 private:
  std::string entries_, data_;
};

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_FORMAT_SAFETENSORS_WRITER_H_
