#include "tests/golden/golden_file.h"

#include <cstdlib>
#include <numeric>

#include "common/file.h"
#include "model/format/float16.h"

namespace coterie {
namespace {

constexpr uint32_t kMagic = 0x444c4743;  // "CGLD"

class Cursor {
 public:
  explicit Cursor(std::string_view bytes) : bytes_(bytes) {}

  std::string_view Take(size_t n) {
    if (n > bytes_.size()) {
      is_short_ = true;
      bytes_ = {};
      return {};
    }
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  template <typename T>
  T Number() {
    T value{};
    const std::string_view raw = Take(sizeof(T));
    if (!raw.empty()) std::memcpy(&value, raw.data(), sizeof(T));
    return value;
  }
  bool is_short() const { return is_short_; }
  bool is_empty() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool is_short_ = false;
};

constexpr size_t kTypeBytes[] = {4, 2, 2, 4, 4, 1};

template <typename Stored, typename To>
std::vector<To> Convert(const std::string& bytes) {
  std::vector<To> out(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<To>(value);
  }
  return out;
}

}  // namespace

std::filesystem::path GoldenPath(std::string_view name) {
  return std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/golden" / name;
}

std::filesystem::path TestDataPath(std::string_view name) {
  return std::filesystem::path(COTERIE_SOURCE_DIR) / "tests/data" / name;
}

std::filesystem::path RealModelPath(std::string_view name) {
  if (const char* folder = std::getenv("COTERIE_MODELS")) return std::filesystem::path(folder) / name;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home == nullptr ? "." : home) / ".cache/coterie/models" / name;
}

size_t GoldenArray::n_elements() const {
  return std::accumulate(shape.begin(), shape.end(), size_t{1}, std::multiplies<>());
}

std::vector<float> GoldenArray::Floats() const {
  switch (type) {
    case Type::kF32:
      return Convert<float, float>(bytes);
    case Type::kF16: {
      const std::vector<uint16_t> halves = Convert<uint16_t, uint16_t>(bytes);
      std::vector<float> out(halves.size());
      for (size_t i = 0; i < out.size(); ++i) out[i] = HalfToFloat(halves[i]);
      return out;
    }
    default: {
      const std::vector<int32_t> ints = Ints();
      return {ints.begin(), ints.end()};
    }
  }
}

std::vector<int32_t> GoldenArray::Ints() const {
  switch (type) {
    case Type::kU16:
      return Convert<uint16_t, int32_t>(bytes);
    case Type::kU32:
    case Type::kI32:
      return Convert<int32_t, int32_t>(bytes);
    case Type::kU8:
      return Convert<uint8_t, int32_t>(bytes);
    default:
      return {};
  }
}

StatusOr<std::map<std::string, GoldenArray>> ReadGoldenArrays(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  const std::span<const uint8_t> content = file->bytes();
  Cursor cursor({reinterpret_cast<const char*>(content.data()), content.size()});
  if (cursor.Number<uint32_t>() != kMagic || cursor.Number<uint32_t>() != 1) {
    return absl::InvalidArgumentError(path.string() + ": not a golden file of version 1");
  }
  std::map<std::string, GoldenArray> arrays;
  const auto n_arrays = cursor.Number<uint32_t>();
  for (uint32_t i = 0; i < n_arrays && !cursor.is_short(); ++i) {
    const std::string name(cursor.Take(cursor.Number<uint16_t>()));
    GoldenArray array;
    const auto type = cursor.Number<uint8_t>();
    if (type > static_cast<uint8_t>(GoldenArray::Type::kU8)) {
      return absl::InvalidArgumentError(path.string() + ": array " + name + " has an unknown type");
    }
    array.type = static_cast<GoldenArray::Type>(type);
    array.shape.resize(cursor.Number<uint8_t>());
    for (size_t& dimension : array.shape) dimension = cursor.Number<uint32_t>();
    array.bytes = cursor.Take(array.n_elements() * kTypeBytes[type]);
    arrays.emplace(name, std::move(array));
  }
  if (cursor.is_short() || !cursor.is_empty() || arrays.size() != n_arrays) {
    return absl::InvalidArgumentError(path.string() + ": cut short, or bytes left over");
  }
  return arrays;
}

}  // namespace coterie
