#ifndef COTERIE_TESTS_GOLDEN_GOLDEN_FILE_H_
#define COTERIE_TESTS_GOLDEN_GOLDEN_FILE_H_

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace coterie {

// A file of tests/golden or tests/data.
std::filesystem::path GoldenPath(std::string_view name);
std::filesystem::path TestDataPath(std::string_view name);
// A file of the real models ($COTERIE_MODELS, default ~/.cache/coterie/models), which may not be there.
std::filesystem::path RealModelPath(std::string_view name);

struct GoldenArray {
  enum class Type : uint8_t { kF32, kF16, kU16, kU32, kI32, kU8 };
  Type type = Type::kF32;
  std::vector<size_t> shape;
  std::string bytes;  // little-endian values, row-major

  size_t n_elements() const;
  // The values, converted; F16 only to float.
  std::vector<float> Floats() const;
  std::vector<int32_t> Ints() const;
};

// Reads the layout that golden_io.py writes. InvalidArgument on a file that is cut short.
StatusOr<std::map<std::string, GoldenArray>> ReadGoldenArrays(const std::filesystem::path& path);

}  // namespace coterie

#endif  // COTERIE_TESTS_GOLDEN_GOLDEN_FILE_H_
