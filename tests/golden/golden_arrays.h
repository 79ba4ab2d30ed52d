#ifndef COTERIE_TESTS_GOLDEN_GOLDEN_ARRAYS_H_
#define COTERIE_TESTS_GOLDEN_GOLDEN_ARRAYS_H_

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/status.h"

namespace coterie::testing {

struct GoldenArray {
  int type = 0;  // 0 f32, 1 f16, 2 u16, 3 u32, 4 i32, 5 u8
  std::vector<uint32_t> shape;
  std::string bytes;

  template <class T>
  std::vector<T> As() const {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }
};

// A file of tests/golden/golden_io.py.
inline StatusOr<std::map<std::string, GoldenArray>> ReadGoldenArrays(const std::filesystem::path& path) {
  const StatusOr<std::string> content = ReadFile(path, size_t{256} << 20);
  if (!content.ok()) return content.status();
  const std::string& raw = *content;
  size_t at = 0;
  bool short_file = false;
  const auto take = [&](void* to, size_t n) {
    if (n > raw.size() - at) {
      short_file = true;
      std::memset(to, 0, n);
      return;
    }
    std::memcpy(to, raw.data() + at, n);
    at += n;
  };
  constexpr size_t kSizes[] = {4, 2, 2, 4, 4, 1};
  char magic[4];
  uint32_t version = 0, n_arrays = 0;
  take(magic, 4);
  take(&version, 4);
  take(&n_arrays, 4);
  std::map<std::string, GoldenArray> arrays;
  for (uint32_t i = 0; i < n_arrays && !short_file; ++i) {
    uint16_t length = 0;
    take(&length, 2);
    std::string name(length, '\0');
    take(name.data(), length);
    GoldenArray array;
    uint8_t type = 0, n_dims = 0;
    take(&type, 1);
    take(&n_dims, 1);
    array.type = type;
    size_t n = 1;
    for (int d = 0; d < n_dims; ++d) {
      uint32_t size = 0;
      take(&size, 4);
      array.shape.push_back(size);
      n *= size;
    }
    if (short_file || type > 5 || n * kSizes[type] > raw.size() - at) break;
    array.bytes = raw.substr(at, n * kSizes[type]);
    at += array.bytes.size();
    arrays.emplace(std::move(name), std::move(array));
  }
  if (std::memcmp(magic, "CGLD", 4) != 0 || version != 1 || arrays.size() != n_arrays) {
    return absl::InvalidArgumentError(absl::StrCat(path.string(), " is not a golden file"));
  }
  return arrays;
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_GOLDEN_GOLDEN_ARRAYS_H_
